//! Which networks an isolate refuses before it looks at their credentials: those whose refused credentials have passed the
//! deployment's bound.
//!
//! Who counts is the platform, which cannot be asked without counting. So each refusal is counted there, and what it says of one is
//! kept here for a while. Nothing of a tenant is known here.

use alloc::borrow::ToOwned;
use alloc::string::String;

use tidegate_protocol::SortedMap;
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::time::UnixMs;

/// How long a network is refused: the window in which the platform counts (`period` in `wrangler.toml`). Milliseconds.
pub const REFUSED_MS: u64 = 10_000;
/// Networks that are kept at most, some 100 bytes each. A flood from more of them is verified in part.
const NETWORKS_MAX: usize = 4_096;

/// The networks that are refused, each until when.
#[derive(Debug, Clone, Default)]
pub struct Refused(SortedMap<String, UnixMs>);

impl Refused {
    /// An isolate that has heard of none.
    pub const fn new() -> Self {
        Self(SortedMap::new())
    }

    /// How long the network is still refused, where it is. Milliseconds.
    pub fn of(&self, network: &Network, now: UnixMs) -> Option<u64> {
        let until = self.0.get(network.as_str()?)?;
        // A clock that stepped back keeps nobody out for longer than the bound says.
        let left = until.since(now).min(REFUSED_MS);
        (left > 0).then_some(left)
    }

    /// A network has passed the bound. One that is unknown is never refused: it may be anybody's.
    pub fn add(&mut self, network: &Network, now: UnixMs) {
        let Some(network) = network.as_str() else { return };
        if self.0.len() >= NETWORKS_MAX {
            self.0.retain(|_, until| *until > now);
        }
        if self.0.len() >= NETWORKS_MAX {
            self.0.pop_first();
        }
        self.0.insert(network.to_owned(), now.plus(REFUSED_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_passed_the_bound_is_refused_for_a_window_and_no_other_is() {
        let mut refused = Refused::new();
        let (bad, good) = (Network::of("203.0.113.7"), Network::of("203.0.113.8"));
        assert_eq!(refused.of(&bad, UnixMs(1_000)), None);
        refused.add(&bad, UnixMs(1_000));
        assert_eq!(refused.of(&bad, UnixMs(1_000)), Some(REFUSED_MS));
        assert_eq!(refused.of(&bad, UnixMs(10_999)), Some(1));
        assert_eq!(refused.of(&bad, UnixMs(11_000)), None);
        assert_eq!(refused.of(&good, UnixMs(1_000)), None);
        // All of a /64 is one network.
        refused.add(&Network::of("2001:db8:0:1::1"), UnixMs(1_000));
        assert!(
            refused
                .of(&Network::of("2001:db8:0:1:ffff::2"), UnixMs(2_000))
                .is_some()
        );
        assert_eq!(refused.of(&Network::of("2001:db8:0:2::1"), UnixMs(2_000)), None);
    }

    #[test]
    fn nobody_is_refused_for_an_address_that_is_not_known() {
        let mut refused = Refused::new();
        refused.add(&Network::default(), UnixMs(1));
        assert_eq!(refused.of(&Network::default(), UnixMs(1)), None);
    }

    #[test]
    fn a_clock_that_steps_back_refuses_nobody_for_longer() {
        let mut refused = Refused::new();
        let network = Network::of("203.0.113.7");
        refused.add(&network, UnixMs(1_000_000));
        assert_eq!(refused.of(&network, UnixMs(5)), Some(REFUSED_MS));
    }

    #[test]
    fn a_flood_from_everywhere_fills_no_memory() {
        let mut refused = Refused::new();
        for n in 0..3 * NETWORKS_MAX {
            let address = alloc::format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
            refused.add(&Network::of(&address), UnixMs(1));
        }
        assert_eq!(refused.0.len(), NETWORKS_MAX);
        // What is over goes first.
        refused.add(&Network::of("203.0.113.7"), UnixMs(1 + REFUSED_MS));
        assert_eq!(refused.0.len(), 1);
    }
}
