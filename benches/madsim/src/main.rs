//! Runs a ring in madsim for each line `NODES HOPS` of the input, and answers with nanoseconds.
//!
//! Each node sends 16 bytes to the next one and passes on what it receives, until it has received `HOPS` messages.

#[cfg(madsim)]
fn main() -> std::io::Result<()> {
    use std::io::{BufRead, Write};

    let mut answers = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (nodes, hops) = line.split_once(' ').unwrap_or_default();
        let (Ok(nodes), Ok(hops)) = (nodes.parse(), hops.parse()) else {
            return Err(std::io::Error::other(format!("{line:?} is not NODES HOPS")));
        };
        writeln!(answers, "{}", ring::run(nodes, hops))?;
        answers.flush()?;
    }
    Ok(())
}

#[cfg(not(madsim))]
fn main() {
    eprintln!("built without --cfg madsim: build it in its own folder");
    std::process::exit(70);
}

#[cfg(madsim)]
mod ring {
    use madsim::net::Endpoint;
    use madsim::runtime::Runtime;
    use madsim::{Config, time};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::Duration;

    const PORT: u16 = 7000;

    fn address(node: u32) -> IpAddr {
        // 10.1.0.0 and up, inside the simulated network.
        IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + node))
    }

    /// Returns the nanoseconds that `nodes` times `hops` messages took.
    pub fn run(nodes: u32, hops: u64) -> u128 {
        let mut config = Config::default();
        config.net.send_latency = Duration::from_micros(500)..Duration::from_micros(1500);
        let runtime = Runtime::with_seed_and_config(7, config);
        // madsim replaces the std clock inside the simulation; out here it is the real one.
        let start = std::time::Instant::now();
        let members: Vec<_> = (0..nodes)
            .map(|node| runtime.create_node().ip(address(node)).build())
            .collect();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..nodes)
                .zip(&members)
                .map(|(node, member)| member.spawn(pass(node, nodes, hops)))
                .collect();
            for task in tasks {
                task.await.expect("no node fails");
            }
        });
        start.elapsed().as_nanos()
    }

    async fn pass(node: u32, nodes: u32, hops: u64) {
        let endpoint = Endpoint::bind(SocketAddr::new(address(node), PORT))
            .await
            .expect("an address of its own");
        // Once everybody listens.
        time::sleep(Duration::from_millis(2)).await;
        let next = SocketAddr::new(address((node + 1) % nodes), PORT);
        let mut token = [0_u8; 16];
        endpoint.send_to(next, 1, &token).await.expect("sent");
        for received in 1..=hops {
            endpoint.recv_from(1, &mut token).await.expect("received");
            token[..8].copy_from_slice(&received.to_le_bytes());
            if received < hops {
                endpoint.send_to(next, 1, &token).await.expect("sent");
            }
        }
    }
}
