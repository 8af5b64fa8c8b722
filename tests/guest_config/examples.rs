//! The examples of Kubernetes' documentation for a container's environment: what they are for, and what their containers see.

use super::harness::manifest::ShellPod;
use super::harness::{Node, Options};

/// As the tasks `configure-pod-configmap` and `distribute-credentials-secure` have them made.
const OBJECTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: special-config}
data: {SPECIAL_LEVEL: very, SPECIAL_TYPE: charm}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: env-config}
data: {log_level: INFO}
---
apiVersion: v1
kind: Secret
metadata: {name: test-secret}
data: {username: bXktYXBw, password: Mzk1MjgkdmRnN0pi}
---
apiVersion: v1
kind: Secret
metadata: {name: backend-user}
stringData: {backend-username: backend-admin}
---
apiVersion: v1
kind: Secret
metadata: {name: db-user}
stringData: {db-username: db-admin}
";

struct Example {
    /// Below `content/en/examples/` of Kubernetes' website, or the page that it stands on.
    of: &'static str,
    /// Lines of its container.
    container: &'static str,
    /// All variables that come from there, by name; before them what its arguments are, if it has some.
    seen: &'static str,
}

const EXAMPLES: [Example; 13] = [
    Example {
        of: "pods/inject/envars.yaml",
        container: "env: [{name: DEMO_GREETING, value: Hello from the environment}, {name: DEMO_FAREWELL, value: Such a sweet sorrow}]",
        seen: "DEMO_FAREWELL=Such a sweet sorrow\nDEMO_GREETING=Hello from the environment\n",
    },
    Example {
        of: "define-environment-variable-container",
        container: "\
env:
- {name: GREETING, value: Warm greetings to}
- {name: HONORIFIC, value: The Most Honorable}
- {name: NAME, value: Kubernetes}
- {name: MESSAGE, value: $(GREETING) $(HONORIFIC) $(NAME)}
args: [$(MESSAGE)]",
        seen: "Warm greetings to The Most Honorable Kubernetes\nGREETING=Warm greetings to\nHONORIFIC=The Most Honorable\n\
            MESSAGE=Warm greetings to The Most Honorable Kubernetes\nNAME=Kubernetes\n",
    },
    Example {
        of: "pods/inject/dependent-envars.yaml",
        container: "\
env:
- {name: SERVICE_PORT, value: '80'}
- {name: SERVICE_IP, value: 172.17.0.1}
- {name: UNCHANGED_REFERENCE, value: '$(PROTOCOL)://$(SERVICE_IP):$(SERVICE_PORT)'}
- {name: PROTOCOL, value: https}
- {name: SERVICE_ADDRESS, value: '$(PROTOCOL)://$(SERVICE_IP):$(SERVICE_PORT)'}
- {name: ESCAPED_REFERENCE, value: '$$(PROTOCOL)://$(SERVICE_IP):$(SERVICE_PORT)'}",
        seen: "ESCAPED_REFERENCE=$(PROTOCOL)://172.17.0.1:80\nPROTOCOL=https\nSERVICE_ADDRESS=https://172.17.0.1:80\n\
            SERVICE_IP=172.17.0.1\nSERVICE_PORT=80\nUNCHANGED_REFERENCE=$(PROTOCOL)://172.17.0.1:80\n",
    },
    Example {
        of: "pods/inject/dapi-envars-pod.yaml",
        container: "\
env:
- {name: MY_NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: MY_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: MY_POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: MY_POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: MY_POD_SERVICE_ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}",
        // A static Pod has no service account.
        seen: "MY_NODE_NAME=node1\nMY_POD_IP=<its own>\nMY_POD_NAME=example-3-node1\nMY_POD_NAMESPACE=default\nMY_POD_SERVICE_ACCOUNT=\n",
    },
    Example {
        of: "pods/inject/dapi-envars-container.yaml",
        container: "\
resources: {requests: {memory: 32Mi, cpu: 125m}, limits: {memory: 64Mi, cpu: 250m}}
env:
- {name: MY_CPU_REQUEST, valueFrom: {resourceFieldRef: {containerName: main, resource: requests.cpu}}}
- {name: MY_CPU_LIMIT, valueFrom: {resourceFieldRef: {containerName: main, resource: limits.cpu}}}
- {name: MY_MEM_REQUEST, valueFrom: {resourceFieldRef: {containerName: main, resource: requests.memory}}}
- {name: MY_MEM_LIMIT, valueFrom: {resourceFieldRef: {containerName: main, resource: limits.memory}}}",
        seen: "MY_CPU_LIMIT=1\nMY_CPU_REQUEST=1\nMY_MEM_LIMIT=67108864\nMY_MEM_REQUEST=33554432\n",
    },
    Example {
        of: "the same, with divisors",
        container: "\
resources: {requests: {memory: 32Mi, cpu: 125m}, limits: {memory: 64Mi, cpu: 250m, ephemeral-storage: 1Gi}}
env:
- {name: MY_CPU_REQUEST, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
- {name: MY_CPU_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: '1'}}}
- {name: MY_MEM_REQUEST, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
- {name: MY_MEM_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1M}}}
- {name: MY_DISK_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage, divisor: 1Ki}}}",
        seen: "MY_CPU_LIMIT=1\nMY_CPU_REQUEST=125\nMY_DISK_LIMIT=1048576\nMY_MEM_LIMIT=68\nMY_MEM_REQUEST=32\n",
    },
    Example {
        of: "pods/pod-multiple-configmap-env-variable.yaml",
        container: "\
env:
- {name: SPECIAL_LEVEL_KEY, valueFrom: {configMapKeyRef: {name: special-config, key: SPECIAL_LEVEL}}}
- {name: LOG_LEVEL, valueFrom: {configMapKeyRef: {name: env-config, key: log_level}}}",
        seen: "LOG_LEVEL=INFO\nSPECIAL_LEVEL_KEY=very\n",
    },
    Example {
        of: "pods/pod-configmap-envFrom.yaml",
        container: "envFrom: [{configMapRef: {name: special-config}}]",
        seen: "SPECIAL_LEVEL=very\nSPECIAL_TYPE=charm\n",
    },
    Example {
        of: "pods/pod-configmap-env-var-valueFrom.yaml",
        container: "\
args: [$(SPECIAL_LEVEL_KEY) $(SPECIAL_TYPE_KEY)]
env:
- {name: SPECIAL_LEVEL_KEY, valueFrom: {configMapKeyRef: {name: special-config, key: SPECIAL_LEVEL}}}
- {name: SPECIAL_TYPE_KEY, valueFrom: {configMapKeyRef: {name: special-config, key: SPECIAL_TYPE}}}",
        seen: "very charm\nSPECIAL_LEVEL_KEY=very\nSPECIAL_TYPE_KEY=charm\n",
    },
    Example {
        of: "pods/inject/pod-single-secret-env-variable.yaml",
        container: "env: [{name: SECRET_USERNAME, valueFrom: {secretKeyRef: {name: backend-user, key: backend-username}}}]",
        seen: "SECRET_USERNAME=backend-admin\n",
    },
    Example {
        of: "pods/inject/pod-multiple-secret-env-variable.yaml",
        container: "\
env:
- {name: BACKEND_USERNAME, valueFrom: {secretKeyRef: {name: backend-user, key: backend-username}}}
- {name: DB_USERNAME, valueFrom: {secretKeyRef: {name: db-user, key: db-username}}}",
        seen: "BACKEND_USERNAME=backend-admin\nDB_USERNAME=db-admin\n",
    },
    Example {
        of: "pods/inject/pod-secret-envFrom.yaml",
        container: "envFrom: [{secretRef: {name: test-secret}}]",
        seen: "password=39528$vdg7Jb\nusername=my-app\n",
    },
    Example {
        of: "both, with prefixes, and `env` before `envFrom`",
        container: "\
envFrom: [{prefix: CONFIG_, configMapRef: {name: special-config}}, {prefix: SECRET_, secretRef: {name: db-user}}]
env: [{name: CONFIG_SPECIAL_TYPE, value: 'no $(CONFIG_SPECIAL_TYPE)'}]",
        seen: "CONFIG_SPECIAL_LEVEL=very\nCONFIG_SPECIAL_TYPE=no charm\nSECRET_db-username=db-admin\n",
    },
];

/// The environment itself, for a shell does not hand on what it cannot name; without what podkeep and the image give everybody. The
/// Pod's address is the one of its `/etc/hosts`.
const LOOK: &str = "[ $# = 0 ] || echo \"$1\"; tr '\\0' '\\n' </proc/1/environ | grep -v '^\\(PATH\\|HOME\\|HOSTNAME\\)=' \\
    | sed \"s/=$(grep $HOSTNAME /etc/hosts | head -n 1 | cut -f 1)\\$/=<its own>/\" | sort";

#[test]
fn kubernetes_own_examples_of_variables_are_seen_as_its_documentation_says() {
    let node = Node::start(Options::default());
    node.manifest("objects.yaml", OBJECTS);
    let job = |(number, example): (usize, &Example)| {
        let name = format!("example-{number}");
        // What `sh -c SCRIPT` calls itself comes before its arguments.
        let container = example.container.replace("args: [", "args: [sh, ");
        let pod = ShellPod { name: &name, script: LOOK, spec: "restartPolicy: Never", container: &container };
        let manifest = pod.yaml();
        (name, manifest)
    };
    let jobs: Vec<_> = EXAMPLES.iter().enumerate().map(job).collect();
    for (example, output) in EXAMPLES.iter().zip(node.outputs_of(&jobs)) {
        assert_eq!(output, example.seen, "{}", example.of);
    }
}
