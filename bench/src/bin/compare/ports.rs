//! Free loopback ports. Nothing reserves them: between finding and use another program may take one, and the start fails.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

/// As many free ports as asked, each chosen by the system.
pub(crate) fn free(count: usize) -> io::Result<Vec<u16>> {
    // All stay bound until all are found, so that no port is found twice.
    let listeners = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<Vec<_>, _>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

/// The first of `length` neighbouring free ports, below the range that systems hand out to clients.
pub(crate) fn free_stretch(length: u16) -> io::Result<u16> {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut candidates = (10_000..30_000).step_by(usize::from(length.max(1)));
    candidates
        .find(|base| (*base..base + length).all(is_free))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("no {length} free ports in a row"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct() {
        let mut ports = free(20).expect("free ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn a_stretch_avoids_ports_in_use() {
        let base = free_stretch(10).expect("free ports");
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, base + 5)).expect("it was free");
        assert_ne!(free_stretch(10).expect("free ports"), base);
    }
}
