//! The host's own addresses, as others reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Addresses far away, of a root name server: the way to them is the default route. Nothing is sent there.
const FAR_AWAY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
];

/// The addresses that the kernel would use towards the default route, IPv4 before IPv6, at most one of each; none where there is
/// no such route. A few system calls, and no packet.
pub fn host_ips() -> Vec<IpAddr> {
    FAR_AWAY.into_iter().filter_map(own_towards).collect()
}

/// The source address that a datagram would have.
fn own_towards(far: IpAddr) -> Option<IpAddr> {
    let any = if far.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Of a datagram socket that only looks the route up.
    socket.connect((far, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified() && !own.is_loopback()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_the_kernel_would_use() {
        // The way to this machine itself begins at loopback, which nobody else reaches.
        assert_eq!(own_towards(Ipv4Addr::LOCALHOST.into()), None);
        for ip in host_ips() {
            assert!(UdpSocket::bind((ip, 0)).is_ok(), "{ip} is an address of this machine");
        }
    }
}
