package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// validFor is longer than any kept demo cluster lives.
const validFor = 365 * 24 * time.Hour

func pkiCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "pki DIR",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return writePKI(args[0]) },
	}
}

// writePKI fills dir with ca.crt, ca.key, server.crt, server.key and sa.key (service account tokens).
func writePKI(dir string) error {
	authorityKey, err := newKey(dir, "ca.key")
	if err != nil {
		return err
	}
	serverKey, err := newKey(dir, "server.key")
	if err != nil {
		return err
	}
	if _, err := newKey(dir, "sa.key"); err != nil {
		return err
	}

	authority := certificate(1, "windlass-lab-ca")
	authority.IsCA = true
	authority.BasicConstraintsValid = true
	authority.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if err := sign(dir, "ca.crt", authority, authority, authorityKey.Public(), authorityKey); err != nil {
		return err
	}

	server := certificate(2, "kube-apiserver")
	server.KeyUsage = x509.KeyUsageDigitalSignature
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.DNSNames = []string{"localhost", "kubernetes.default.svc"}
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	return sign(dir, "server.crt", server, authority, serverKey.Public(), authorityKey)
}

func certificate(serial int64, name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour), // clocks of test machines jump
		NotAfter:     now.Add(validFor),
	}
}

func newKey(dir, file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate %s: %w", file, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", file, err)
	}
	return key, writePEM(filepath.Join(dir, file), "EC PRIVATE KEY", der)
}

func sign(dir, file string, leaf, issuer *x509.Certificate, public crypto.PublicKey, key crypto.Signer) error {
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, public, key)
	if err != nil {
		return fmt.Errorf("sign %s: %w", file, err)
	}
	return writePEM(filepath.Join(dir, file), "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
