package wire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// Test vectors: RFC 9001 and RFC 9369, appendices A.1 and A.5.
var keyVectors = []struct {
	name, secret, key, iv, hp string
	suite                     Suite
	version                   uint32
}{
	{
		"A.1 client", "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea",
		"1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2", SuiteAES128GCM, Version1,
	},
	{
		"A.1 server", "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b",
		"cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e", "c206b8d9b9f0f37644430b490eeaa314", SuiteAES128GCM, Version1,
	},
	{
		"A.5", "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b",
		"c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8", "e0459b3474bdd0e44a41c144",
		"25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4", SuiteChaCha20Poly1305, Version1,
	},
	{
		"version 2, A.1 client", "14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b",
		"8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9", SuiteAES128GCM, Version2,
	},
}

func TestKeyVectors(t *testing.T) {
	for _, tc := range keyVectors {
		l, err := labelsOf(tc.version)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []struct {
			label string
			want  string
		}{{l.key, tc.key}, {l.iv, tc.iv}, {l.hp, tc.hp}} {
			want := fromHex(t, part.want)
			got, err := expandLabel(tc.suite.hash(), fromHex(t, tc.secret), part.label, len(want))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s is %x, %v; want %x", tc.name, part.label, got, err, want)
			}
		}
		g, err := newGeneration(tc.suite, l, fromHex(t, tc.secret))
		if err != nil || !bytes.Equal(g.iv[:], fromHex(t, tc.iv)) {
			t.Errorf("%s: IV of the generation is %x, %v", tc.name, g.iv, err)
		}
	}
}

func TestInitialSecrets(t *testing.T) {
	dcid := fromHex(t, "8394c8f03e515708")
	client, server := InitialSecrets(Version1, dcid)
	if !bytes.Equal(client, fromHex(t, keyVectors[0].secret)) || !bytes.Equal(server, fromHex(t, keyVectors[1].secret)) {
		t.Errorf("version 1: %x, %x", client, server)
	}
	if client, _ := InitialSecrets(Version2, dcid); !bytes.Equal(client, fromHex(t, keyVectors[3].secret)) {
		t.Errorf("version 2: %x", client)
	}
	if client, server := InitialSecrets(0x1a2a3a4a, dcid); client != nil || server != nil {
		t.Error("an unknown version has Initial secrets")
	}
}

// The update of A.5's secret.
func TestKeyUpdateVectors(t *testing.T) {
	for version, want := range map[uint32]string{
		Version1: "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9",
		Version2: "c69374c49e3d2a9466fa689e49d476db5d0dfbc87d32ceeaa6343fd0ae4c7d88",
	} {
		k, err := NewKeys(SuiteChaCha20Poly1305, version, fromHex(t, keyVectors[2].secret))
		if err != nil {
			t.Fatal(err)
		}
		k.Update()
		if got := k.gens[1].secret; !bytes.Equal(got, fromHex(t, want)) {
			t.Errorf("version %#x: %x, want %s", version, got, want)
		}
	}
}

func TestNewKeysRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		suite   Suite
		version uint32
		secret  int
		err     error
	}{
		{"version", SuiteAES128GCM, 5, 32, ErrVersion},
		{"suite", 0x1304, Version1, 32, ErrSuite},
		{"long secret", SuiteAES128GCM, Version1, 48, ErrSecret},
		{"short secret", SuiteAES256GCM, Version1, 32, ErrSecret},
		{"no secret", SuiteChaCha20Poly1305, Version1, 0, ErrSecret},
	} {
		if k, err := NewKeys(tc.suite, tc.version, make([]byte, tc.secret)); !errors.Is(err, tc.err) || k != nil {
			t.Errorf("%s: error %v, want %v", tc.name, err, tc.err)
		}
	}
}

func TestSuites(t *testing.T) {
	for size, want := range map[int][]Suite{
		0: nil, 31: nil, 32: {SuiteAES128GCM, SuiteChaCha20Poly1305}, 48: {SuiteAES256GCM},
	} {
		got := SuitesForSecret(make([]byte, size))
		if !slices.Equal(got, want) {
			t.Errorf("%d bytes: %v, want %v", size, got, want)
		}
		for _, s := range got {
			if _, err := NewKeys(s, Version1, make([]byte, size)); err != nil {
				t.Error(err)
			}
		}
	}
	if got, want := fmt.Sprint(allSuites, Suite(0x1304)), "[null aes-128-gcm aes-256-gcm chacha20-poly1305] suite-0x1304"; got != want {
		t.Errorf("names %s, want %s", got, want)
	}
}
