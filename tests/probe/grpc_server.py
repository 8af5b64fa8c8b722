"""A gRPC server whose health depends on the service that is asked about. Its first line says its port."""

import sys
from concurrent import futures

import grpc

# HealthCheckResponse, as protobuf has it: field 1, a number.
STATUSES = {b"": b"\x08\x01", b"up": b"\x08\x01", b"down": b"\x08\x02"}


def check(request, context):
    service = request[2:]
    if service not in STATUSES:
        context.abort(grpc.StatusCode.NOT_FOUND, "no service of that name, ü")
    return STATUSES[service]


handler = grpc.unary_unary_rpc_method_handler(check)
service = "other.Service" if "--without-health" in sys.argv else "grpc.health.v1.Health"
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": handler}),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
