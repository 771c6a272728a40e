//! Security groups for pods on a real kube-apiserver with kube-scheduler: the resource and the webhooks of EKS, a
//! stand-in for AWS's controller that gives branch interfaces, and a node whose network needs them. First they do what
//! EKS does to any pod, then the daemon works with them.

mod daemon;
mod interfaces;
mod webhooks;
mod world;
