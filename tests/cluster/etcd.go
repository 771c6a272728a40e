package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// quotaBytes bounds etcd's file: a load test with 100,000 pods writes about 1 GB of history between compactions.
const quotaBytes = 4 << 30

func etcdCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "etcd DIR CLIENT_URL",
		Args: cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			config, err := etcdConfig(args[0], args[1])
			if err != nil {
				return err
			}
			server, err := embed.StartEtcd(config)
			if err != nil {
				return fmt.Errorf("start etcd in %s: %w", args[0], err)
			}
			defer server.Close()
			select {
			case err = <-server.Err():
				return err
			case <-command.Context().Done(): // SIGTERM, by component-base/cli
				return nil
			}
		},
	}
}

func etcdConfig(dir, clientURL string) (*embed.Config, error) {
	client, err := url.Parse(clientURL)
	if err != nil {
		return nil, fmt.Errorf("client URL %q: %w", clientURL, err)
	}
	// A peer listener is mandatory; with a single member nobody dials it, so any free port does.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}

	config := embed.NewConfig()
	config.Dir = dir
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.ListenPeerUrls = []url.URL{peer}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true // the data dies with the test
	config.QuotaBackendBytes = quotaBytes
	config.LogLevel = "warn"
	return config, nil
}
