// Command kube-apiserver is a real Kubernetes API server and its etcd in one process, for the tests.
//
//	kube-apiserver --etcd-data-dir DIR [the flags of kube-apiserver]
//
// etcd speaks only over a UNIX socket in its data directory, so nothing but the API's own port is open, and several
// servers run side by side. Everything but the first flag is kube-apiserver's own.
package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// etcdReady is longer than an empty etcd takes to elect itself on a busy machine.
const etcdReady = 60 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kube-apiserver:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 3 || os.Args[1] != "--etcd-data-dir" {
		return errors.New("usage: kube-apiserver --etcd-data-dir DIR [the flags of kube-apiserver]")
	}
	endpoint, stop, err := startEtcd(os.Args[2])
	if err != nil {
		return err
	}
	defer stop()
	os.Args = append([]string{os.Args[0], "--etcd-servers=" + endpoint}, os.Args[3:]...)
	if code := cli.Run(app.NewAPIServerCommand()); code != 0 {
		return fmt.Errorf("the API server ended with code %d; its words are above", code)
	}
	return nil
}

// startEtcd starts an empty etcd and says where it is.
func startEtcd(dir string) (endpoint string, stop func(), err error) {
	// Its sockets are bound before it makes the directory itself.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel = "error"
	// What a test wrote is of no use after a power failure.
	cfg.UnsafeNoFsync = true
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, "client.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, "peer.sock")}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return "", nil, fmt.Errorf("etcd does not start in %s: %w", dir, err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return client.String(), server.Close, nil
	case err := <-server.Err():
		return "", nil, fmt.Errorf("etcd ended while it started: %w", err)
	case <-time.After(etcdReady):
		server.Close()
		return "", nil, fmt.Errorf("etcd was not ready within %s", etcdReady)
	}
}
