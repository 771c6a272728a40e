//! The branch interfaces of one node, and EC2 as far as it makes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde::Serialize;

/// VLANs that a trunk interface can tell apart; 0 is not used.
const VLAN_IDS: u8 = 120;
/// What EC2 names the calls of a failure by, where nothing is called.
const REQUEST_ID: &str = "00000000-0000-0000-0000-000000000000";

/// A branch interface as the annotation has it. An address that there is not is the empty text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Interface {
    eni_id: String,
    if_address: String,
    private_ip: String,
    ipv6_addr: String,
    vlan_id: u8,
    subnet_cidr: String,
    #[serde(rename = "subnetV6Cidr")]
    subnet_v6_cidr: String,
    #[serde(rename = "associationID")]
    association_id: String,
}

/// Which of EC2's calls fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `CreateNetworkInterface`.
    Create,
    /// `AssociateTrunkInterface`.
    Associate,
}

/// A failure of EC2, with its code and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The call.
    pub call: Call,
    /// For example `InsufficientFreeAddressesInSubnet`.
    pub code: String,
    /// EC2's sentence.
    pub message: String,
}

impl Refusal {
    /// As the controller's library tells it.
    fn text(&self) -> String {
        let (doing, operation) = match self.call {
            Call::Create => ("creating network interface", "CreateNetworkInterface"),
            Call::Associate => ("associating branch to trunk", "AssociateTrunkInterface"),
        };
        let Self { code, message, .. } = self;
        format!(
            "{doing}, operation error EC2: {operation}, https response error StatusCode: 400, RequestID: {REQUEST_ID}, \
             api error {code}: {message}"
        )
    }
}

/// The subnet of the nodes. Addresses are given in order, the first is its 11th.
#[derive(Clone, Copy, Debug)]
pub struct Subnet {
    /// Address of the /19; None: only IPv6.
    pub v4: Option<Ipv4Addr>,
    /// Address of the /64; None: only IPv4.
    pub v6: Option<Ipv6Addr>,
}

impl Default for Subnet {
    /// On loopback, so that processes that stand for pods can be reached; the process kubelet gives none of these itself.
    fn default() -> Self {
        Self { v4: Some(Ipv4Addr::new(127, 192, 0, 0)), v6: None }
    }
}

/// What makes interfaces, and how it fails.
#[derive(Debug)]
pub(super) struct Ec2 {
    subnet: Subnet,
    made: u32,
    /// For the next calls that make an interface, one each.
    pub(super) refusals: VecDeque<Refusal>,
}

impl Ec2 {
    pub(super) fn new(subnet: Subnet) -> Self {
        Self { subnet, made: 0, refusals: VecDeque::new() }
    }

    fn make(&mut self, vlan_id: u8) -> Result<Interface, Refusal> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Err(refusal);
        }
        self.made += 1;
        let number = self.made;
        let Subnet { v4, v6 } = self.subnet;
        let text = |address: Option<String>| address.unwrap_or_default();
        let host = number + 10;
        Ok(Interface {
            eni_id: format!("eni-0b{number:015x}"),
            if_address: format!("0a:58:0a:00:{:02x}:{:02x}", 0x20 + (number >> 8), number & 0xff),
            private_ip: text(v4.map(|net| Ipv4Addr::from_bits(net.to_bits() + host).to_string())),
            ipv6_addr: text(v6.map(|net| Ipv6Addr::from_bits(net.to_bits() + u128::from(host)).to_string())),
            vlan_id,
            // The controller tells both, whichever the pods use.
            subnet_cidr: format!("{}/19", v4.unwrap_or(Ipv4Addr::new(10, 0, 32, 0))),
            subnet_v6_cidr: text(v6.map(|net| format!("{net}/64"))),
            association_id: format!("trunk-assoc-0b{number:015x}"),
        })
    }
}

/// Why there are no interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoInterface {
    /// The node has as many as it can, those that cool down included.
    AtLimit,
    /// The controller's words.
    Failed(String),
}

/// A node's trunk interface.
#[derive(Debug)]
pub(super) struct Trunk {
    limit: usize,
    /// By the uid of their pod.
    held: BTreeMap<String, Vec<Interface>>,
    /// When they were given back.
    cooling: Vec<(Instant, Interface)>,
}

impl Trunk {
    /// Of a node that takes so many branches.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: BTreeMap::new(), cooling: Vec::new() }
    }

    /// Branches that count against the limit.
    pub(super) fn used(&self) -> usize {
        self.held.values().map(Vec::len).sum::<usize>() + self.cooling.len()
    }

    /// Makes the branches of a pod. If one cannot be made, the others of the pod go at once.
    pub(super) fn take(
        &mut self,
        uid: &str,
        count: usize,
        ec2: &mut Ec2,
    ) -> Result<Vec<Interface>, NoInterface> {
        let mut made: Vec<Interface> = Vec::new();
        for _ in 0..count {
            if self.used() + made.len() >= self.limit {
                return Err(NoInterface::AtLimit);
            }
            let vlan_id = self.free_vlan(&made).ok_or(NoInterface::AtLimit)?;
            made.push(ec2.make(vlan_id).map_err(|refusal| NoInterface::Failed(refusal.text()))?);
        }
        self.held.insert(uid.to_owned(), made.clone());
        Ok(made)
    }

    fn free_vlan(&self, made: &[Interface]) -> Option<u8> {
        let held =
            self.held.values().flatten().chain(made).chain(self.cooling.iter().map(|(_, branch)| branch));
        let taken: BTreeSet<u8> = held.map(|branch| branch.vlan_id).collect();
        (1..=VLAN_IDS).find(|id| !taken.contains(id))
    }

    /// The pod needs its branches no more: they cool down.
    pub(super) fn release(&mut self, uid: &str, now: Instant) {
        let branches = self.held.remove(uid).into_iter().flatten();
        self.cooling.extend(branches.map(|branch| (now, branch)));
    }

    /// The pod never used its branches: they go at once.
    pub(super) fn undo(&mut self, uid: &str) {
        self.held.remove(uid);
    }

    /// Deletes those that are cool.
    pub(super) fn sweep(&mut self, now: Instant, cool_down: Duration) {
        self.cooling.retain(|(since, _)| now.saturating_duration_since(*since) < cool_down);
    }

    /// Uids of the pods that hold branches.
    pub(super) fn holders(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }
}
