// Command cluster is the Kubernetes that the tests of Windlass run against: the real components, linked into one
// binary from the published Go modules, so that a test machine needs neither a container engine nor a download of
// Kubernetes. One component is one subcommand and one process; the lab (tests/lab) writes their flags.
//
//	cluster pki DIR                        a CA, the API server's certificate, the service account key
//	cluster etcd DIR http://127.0.0.1:PORT the store, one member
//	cluster kube-apiserver FLAGS...        upstream's own flags, as for the two below
//	cluster kube-scheduler FLAGS...
//	cluster kube-controller-manager FLAGS...
//
// kubelet and kubectl are left out: pods are run by the process kubelet of tests/local-cluster, and the two cost a
// tenth of the build.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	_ "time/tzdata" // bare test images have no zone files, CronJob validation wants them

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // request metrics of the components' own clients
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubeapiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kubecontrollermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// components maps a subcommand to what makes it. Built on demand: each constructor registers flags and feature gates
// in process-wide tables, and two of them in one process collide.
var components = map[string]func() *cobra.Command{
	"etcd":                    etcdCommand,
	"pki":                     pkiCommand,
	"kube-apiserver":          kubeapiserver.NewAPIServerCommand,
	"kube-controller-manager": kubecontrollermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return kubescheduler.NewSchedulerCommand() },
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	component, known := components[os.Args[1]]
	if !known {
		usage()
	}
	command := component()
	command.SetArgs(os.Args[2:])
	os.Exit(cli.Run(command))
}

func usage() {
	names := make([]string, 0, len(components))
	for name := range components {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: cluster %s [arguments]\n", strings.Join(names, "|"))
	os.Exit(2)
}
