/* The kernel's floor of a Pod's network: the messages that give a network namespace what podkeep's Pods have of links, addresses and
 * routes, one send for either end, with nothing decided, looked for or kept.
 *
 *   link_floor
 *
 * A veth pair, of which one end lies in a new namespace; both are set up and know each other's hardware address; an address of IPv4 and
 * one of IPv6; the routes there, and back by a gateway. Prints how long that took and how long it takes to remove the link again, as
 * measure.c reads it (`says`). Making the namespace is not measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The numbers of the two ends are chosen here, so that nothing has to be asked for. */
enum { HOST_END = 1000000, POD_END = 2, ALONE_V4 = 32, ALONE_V6 = 128 };

static const char host_name[] = "floor0", pod_name[] = "eth0";
static const uint8_t host_mac[6] = {0x0a, 0x58, 1, 0, 0, 1}, pod_mac[6] = {0x0a, 0x58, 1, 0, 0, 2};

struct family {
	int number, length, bits;
	const char *node, *pod;
};

static const struct family families[] = {
	{AF_INET, 4, ALONE_V4, "10.204.0.1", "10.204.0.2"},
	{AF_INET6, 16, ALONE_V6, "fd00:204::1", "fd00:204::2"},
};

/* Messages, one after the other. */
struct batch {
	char bytes[4096];
	size_t length;
	struct nlmsghdr *last;
	int count;
};

static void check(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "link_floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* ---- messages */

static void *put(struct batch *batch, const void *bytes, size_t length)
{
	void *at = memcpy(batch->bytes + batch->length, bytes, length);
	batch->length += NLMSG_ALIGN(length);
	batch->last->nlmsg_len = (uint32_t)(batch->bytes + batch->length - (char *)batch->last);
	return at;
}

static void begin(struct batch *batch, int kind, int flags, const void *header, size_t length)
{
	batch->last = (struct nlmsghdr *)(batch->bytes + batch->length);
	*batch->last = (struct nlmsghdr){.nlmsg_type = (uint16_t)kind, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)};
	batch->length += NLMSG_HDRLEN;
	batch->count++;
	put(batch, header, length);
}

static struct rtattr *attribute(struct batch *batch, int kind, const void *bytes, size_t length)
{
	struct rtattr head = {.rta_type = (uint16_t)kind, .rta_len = (uint16_t)RTA_LENGTH(length)};
	struct rtattr *at = put(batch, &head, sizeof head);
	if (length)
		put(batch, bytes, length);
	return at;
}

static void end_nested(struct batch *batch, struct rtattr *nested)
{
	nested->rta_len = (uint16_t)(batch->bytes + batch->length - (char *)nested);
}

static void ip(struct batch *batch, int kind, const struct family *family, const char *text)
{
	uint8_t octets[16];
	inet_pton(family->number, text, octets);
	attribute(batch, kind, octets, (size_t)family->length);
}

static void pair(struct batch *batch, uint32_t namespace)
{
	struct ifinfomsg host = {.ifi_index = HOST_END}, pod = {.ifi_index = POD_END};
	begin(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &host, sizeof host);
	attribute(batch, IFLA_IFNAME, host_name, sizeof host_name);
	attribute(batch, IFLA_ADDRESS, host_mac, sizeof host_mac);
	struct rtattr *info = attribute(batch, IFLA_LINKINFO, NULL, 0);
	attribute(batch, IFLA_INFO_KIND, "veth", 4);
	struct rtattr *data = attribute(batch, IFLA_INFO_DATA, NULL, 0), *peer = attribute(batch, VETH_INFO_PEER, NULL, 0);
	put(batch, &pod, sizeof pod);
	attribute(batch, IFLA_IFNAME, pod_name, sizeof pod_name);
	attribute(batch, IFLA_ADDRESS, pod_mac, sizeof pod_mac);
	attribute(batch, IFLA_NET_NS_FD, &namespace, sizeof namespace);
	end_nested(batch, peer);
	end_nested(batch, data);
	end_nested(batch, info);
}

/* Without an address that IPv6 would make up, which takes a second to be sure of. That is said before it is up: afterwards the kernel
 * would look through all routes of IPv6 for those by this link. */
static void set_up(struct batch *batch, int link)
{
	struct ifinfomsg down = {.ifi_index = link}, up = {.ifi_index = link, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	begin(batch, RTM_SETLINK, 0, &down, sizeof down);
	struct rtattr *spec = attribute(batch, IFLA_AF_SPEC, NULL, 0), *inet6 = attribute(batch, AF_INET6, NULL, 0);
	attribute(batch, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof none);
	end_nested(batch, inet6);
	end_nested(batch, spec);
	begin(batch, RTM_SETLINK, 0, &up, sizeof up);
}

static void neighbour(struct batch *batch, int link, const struct family *family, const char *who, const uint8_t *mac)
{
	struct ndmsg header = {.ndm_family = (uint8_t)family->number, .ndm_ifindex = link, .ndm_state = NUD_PERMANENT};
	begin(batch, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof header);
	ip(batch, NDA_DST, family, who);
	attribute(batch, NDA_LLADDR, mac, 6);
}

/* To one address, or with a gateway to all. */
static void route(struct batch *batch, int link, const struct family *family, const char *to, const char *gateway)
{
	struct rtmsg header = {
		.rtm_family = (uint8_t)family->number,
		.rtm_dst_len = (uint8_t)(to ? family->bits : 0),
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = to ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
	};
	begin(batch, RTM_NEWROUTE, NLM_F_CREATE, &header, sizeof header);
	attribute(batch, RTA_OIF, &link, sizeof link);
	ip(batch, to ? RTA_DST : RTA_GATEWAY, family, to ? to : gateway);
}

static void address(struct batch *batch, int link, const struct family *family)
{
	struct ifaddrmsg header = {
		.ifa_family = (uint8_t)family->number,
		.ifa_prefixlen = (uint8_t)family->bits,
		.ifa_flags = family->number == AF_INET6 ? IFA_F_NODAD : 0,
		.ifa_index = (uint32_t)link,
	};
	begin(batch, RTM_NEWADDR, NLM_F_CREATE, &header, sizeof header);
	ip(batch, IFA_LOCAL, family, family->pod);
}

/* ---- sockets */

static int open_socket(void)
{
	int one = 1, netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	check(netlink, "socket");
	check(setsockopt(netlink, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one), "NETLINK_CAP_ACK");
	return netlink;
}

static void tell(int netlink, const struct batch *batch, const char *what)
{
	check(send(netlink, batch->bytes, batch->length, 0), what);
	for (int heard = 0; heard < batch->count; heard++) {
		struct {
			struct nlmsghdr header;
			struct nlmsgerr error;
		} answer;
		check(recv(netlink, &answer, sizeof answer, 0), what);
		errno = -answer.error.error;
		check(answer.error.error, what);
	}
}

int main(void)
{
	static struct batch host, pod, removal;
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), of_host = open_socket();
	check(home, "/proc/self/ns/net");
	check(unshare(CLONE_NEWNET), "unshare");
	int namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), of_pod = open_socket();
	check(setns(home, CLONE_NEWNET), "setns");

	int64_t began = now();
	pair(&host, (uint32_t)namespace);
	set_up(&host, HOST_END);
	set_up(&pod, POD_END);
	for (const struct family *family = families; family < families + 2; family++) {
		neighbour(&host, HOST_END, family, family->pod, pod_mac);
		route(&host, HOST_END, family, family->pod, NULL);
		address(&pod, POD_END, family);
		neighbour(&pod, POD_END, family, family->node, host_mac);
		route(&pod, POD_END, family, family->node, NULL);
		route(&pod, POD_END, family, NULL, family->node);
	}
	tell(of_host, &host, "the host's end");
	tell(of_pod, &pod, "the Pod's end");
	int64_t added = now();
	struct ifinfomsg link = {.ifi_index = HOST_END};
	begin(&removal, RTM_DELLINK, 0, &link, sizeof link);
	tell(of_host, &removal, "remove the link");
	printf("added\t%lld\nremoved\t%lld\n", (long long)(added - began), (long long)(now() - added));
	return 0;
}
