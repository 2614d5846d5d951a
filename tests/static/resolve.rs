//! Looks a name up through std, which asks glibc: what a static one then does is what is tested.
//!   resolve NAME [--as-the-system-says]
//! Without the second argument with `src/sys/resolver.rs`, as groundmist-sync does; with it without.

#[path = "../../src/sys/resolver.rs"]
mod nss;

use std::net::ToSocketAddrs as _;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.len() == 1 {
        nss::only_files_and_dns();
    }
    match (arguments[0].as_str(), 443).to_socket_addrs() {
        Ok(addresses) => addresses.for_each(|address| println!("{}", address.ip())),
        Err(_) => println!("not found"),
    }
}
