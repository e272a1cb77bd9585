package openclaw_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"autoheal.dev/autoheal/internal/openclaw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testIdentity has the seed 00 01 … 1f.
func testIdentity(t testing.TB) openclaw.Identity {
	t.Helper()
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = byte(i)
	}
	id, err := openclaw.NewIdentity(bytes.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The vectors were computed with another implementation of Ed25519.
const (
	goldenID  = "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"
	goldenKey = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
	nonce     = "3deb3523-c10b-4676-b236-a750c6008c5c"
	signedAt  = 1795458432740
)

func TestSignatureVectors(t *testing.T) {
	id := testIdentity(t)
	if id.ID() != goldenID || id.PublicKey() != goldenKey {
		t.Fatalf("identity %s %s", id.ID(), id.PublicKey())
	}
	tests := []struct {
		name, version string
		scopes        []string
		text, sig     string
	}{
		{
			"v2 without scopes", "v2",
			[]string{},
			"v2|" + goldenID + "|node-host|node|node||1795458432740|s3cret|" + nonce,
			"100OcBeOP1knmf40SS24tbEp6W6BBFhoadBrNxfGIJROyaJUkJk1pX9UdZy0rETAqSTKx0TBohZadqrBiApDBg",
		},
		{
			"v2 with the scope of clawnode", "v2",
			[]string{"node"},
			"v2|" + goldenID + "|node-host|node|node|node|1795458432740|s3cret|" + nonce,
			"U6uFGXKNz88wHQC2Zke0p040V0RKC6vXlspdpGycJKCbpelU6AEXxeawkhHpQ778pWy3J29mkqwbDvcflIF1DA",
		},
		{
			"v3 lowers platform and family", "v3",
			[]string{},
			"v3|" + goldenID + "|node-host|node|node||1795458432740|s3cret|" + nonce + "|linux|h100 box",
			"0y2UufJeuLKBJ6wd9c-MIhWKsRQ-CLJBBRCF8m-ZRqmXbBMPqo6Js9-OAbIsUtIFKSsKBAO7m_sT54vSiZ1zBA",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &openclaw.ConnectParams{
				Client: openclaw.ClientInfo{ID: "node-host", Mode: "node", Platform: "Linux", DeviceFamily: "H100 Box"},
				Role:   "node", Scopes: tt.scopes, Auth: &openclaw.AuthParams{Token: "s3cret"},
			}
			sign := openclaw.SignTextV2
			if tt.version == "v3" {
				sign = openclaw.SignTextV3
			}
			if got := sign(p, goldenID, signedAt, nonce); got != tt.text {
				t.Errorf("text\n%s\nwant\n%s", got, tt.text)
			}
			if got := id.Sign(tt.text); got != tt.sig {
				t.Errorf("signature %s, want %s", got, tt.sig)
			}
			p.Device = &openclaw.DeviceProof{ID: goldenID, PublicKey: goldenKey, Signature: tt.sig, SignedAt: signedAt, Nonce: nonce}
			key, err := p.Device.VerifyKey()
			if err != nil {
				t.Fatal(err)
			}
			if v, err := p.VerifySignature(key); err != nil || v != tt.version {
				t.Errorf("verified as %q, %v", v, err)
			}
			p.Client.Mode = "cli"
			if _, err := p.VerifySignature(key); err == nil {
				t.Error("a signature for another mode was accepted")
			}
		})
	}
}

func TestV3BindsThePlatform(t *testing.T) {
	p := &openclaw.ConnectParams{Client: openclaw.ClientInfo{ID: "node-host", Mode: "node", Platform: "linux"}, Role: "node"}
	p.Prove(testIdentity(t), openclaw.Challenge{Nonce: nonce, TS: signedAt})
	key, err := p.Device.VerifyKey()
	if err != nil {
		t.Fatal(err)
	}
	if v, err := p.VerifySignature(key); v != "v3" || err != nil {
		t.Fatalf("verified as %q, %v", v, err)
	}
	p.Client.Platform = "darwin"
	if _, err := p.VerifySignature(key); err == nil {
		t.Error("a v3 signature for another platform was accepted")
	}
}

func TestVerifyKeyRefuses(t *testing.T) {
	for name, d := range map[string]openclaw.DeviceProof{
		"not base64": {ID: goldenID, PublicKey: "!!"},
		"short key":  {ID: goldenID, PublicKey: goldenKey[:20]},
		"other id":   {ID: strings.Repeat("0", 64), PublicKey: goldenKey},
		"upper case": {ID: strings.ToUpper(goldenID), PublicKey: goldenKey},
		"trailing":   {ID: goldenID, PublicKey: goldenKey + "AA"},
		"nothing":    {},
	} {
		if _, err := d.VerifyKey(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestIdentityFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	var wg sync.WaitGroup
	ids := make([]string, 8) // several starters at once agree on one key
	for i := range ids {
		wg.Go(func() {
			id, err := openclaw.LoadOrCreateIdentity(path)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatalf("different identities: %v", ids)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestIdentityFileRefusals(t *testing.T) {
	tests := []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"readable by the group", "x", 0o640, "chmod 600"},
		{"readable by all", "x", 0o604, "chmod 600"},
		{"empty", "", 0o600, "not a PEM private key"},
		{"other text", "hello", 0o600, "not a PEM private key"},
		{"damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "parse private key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := openclaw.LoadOrCreateIdentity(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one with %q and the path", err, tt.want)
			}
			if data, _ := os.ReadFile(path); string(data) != tt.content {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := openclaw.LoadOrCreateIdentity(filepath.Join(t.TempDir(), "none", "key.pem")); err == nil {
		t.Error("a missing folder was accepted")
	}
}

func TestDecodeFrame(t *testing.T) {
	good := []string{
		`{"type":"req","id":"r1","method":"node.list","params":{}}`,
		`{"type":"res","id":"r1","ok":true,"payload":{}}`,
		`{"type":"res","id":"r1","ok":false,"error":{"code":"X","message":"y","details":{},"retryable":true,"retryAfterMs":0}}`,
		`{"type":"event","event":"tick","payload":{},"seq":2,"unknown":[1]}`,
	}
	for _, s := range good {
		if _, err := openclaw.DecodeFrame([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	bad := []string{
		``, `{`, `[]`, `null`, `{}`, `{"type":"req"}`, `{"type":"req","id":"1"}`, `{"type":"res","id":"1"}`, `{"type":"res","ok":true}`,
		`{"type":"event"}`, `{"type":"other","id":"1"}`, `{"type":"req","id":1,"method":"x"}`, `{"type":"res","id":"1","ok":"yes"}`,
	}
	for _, s := range bad {
		if f, err := openclaw.DecodeFrame([]byte(s)); err == nil {
			t.Errorf("%s: accepted as %+v", s, f)
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add([]byte(`{"type":"req","id":"r1","method":"connect","params":{"a":1}}`))
	f.Add([]byte(`{"type":"res","id":"r1","ok":false,"error":{"code":"UNAVAILABLE","message":"m","details":{"nodeError":{"code":"TIMEOUT"}},"retryAfterMs":-9223372036854775808}}`))
	f.Add([]byte(`{"type":"event","event":"presence","payload":{"presence":[{}]},"seq":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := openclaw.DecodeFrame(data)
		if err != nil {
			return
		}
		if frame.Error != nil {
			if frame.Error.RetryAfter < 0 {
				t.Errorf("negative wait %v", frame.Error.RetryAfter)
			}
			if o := openclaw.ClassifyInvoke(frame.Error); o == "" {
				t.Error("no outcome")
			}
		}
		again, err := frame.Encode()
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		back, err := openclaw.DecodeFrame(again)
		if err != nil {
			t.Fatalf("%s does not decode again: %v", again, err)
		}
		if third, _ := back.Encode(); !bytes.Equal(again, third) {
			t.Errorf("not stable:\n%s\n%s", again, third)
		}
	})
}

func TestErrorRoundTrip(t *testing.T) {
	raw := `{"code":"UNAVAILABLE","message":"m","details":{"code":"PAIRING_CHANGED"},"retryable":true,"retryAfterMs":1500}`
	var e openclaw.Error
	if err := json.Unmarshal([]byte(raw), &e); err != nil {
		t.Fatal(err)
	}
	if e.Details.Code() != "PAIRING_CHANGED" || e.RetryAfter.Milliseconds() != 1500 || !e.Retryable || e.Error() != "UNAVAILABLE: m" {
		t.Errorf("%+v", e)
	}
	if out, err := json.Marshal(&e); err != nil || string(out) != raw {
		t.Errorf("%s, %v", out, err)
	}
}
