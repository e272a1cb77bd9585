package container

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

func TestReadAnswer(t *testing.T) {
	for _, tc := range []struct {
		raw    string
		status int
		body   string
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, too much", 200, "hello"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 200, "hello"},
		{"HTTP/1.0 404 Not Found\r\n\r\nuntil the end", 404, "until the end"},
		{"HTTP/1.1 204 No Content\r\n\r\nnot a body", 204, ""},
		{"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nstream", 101, "stream"},
	} {
		a, err := readAnswer(bufio.NewReader(strings.NewReader(tc.raw)))
		if err != nil {
			t.Errorf("%q: %v", tc.raw, err)
			continue
		}
		body, err := io.ReadAll(a.body)
		if err != nil || a.status != tc.status || string(body) != tc.body {
			t.Errorf("%q: %d %q, %v", tc.raw, a.status, body, err)
		}
	}
}

func TestReadAnswerRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxHead),
	} {
		if a, err := readAnswer(bufio.NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("%.40q is read as %+v", raw, a)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := readAnswer(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		if n, _ := io.Copy(io.Discard, a.body); n > int64(len(raw)) {
			t.Errorf("%d bytes of body out of %d", n, len(raw))
		}
	})
}

func TestOutputFrames(t *testing.T) {
	raw := "\x01\x00\x00\x00\x00\x00\x00\x03hel" + "\x02\x00\x00\x00\x00\x00\x00\x04err\n" + "\x01\x00\x00\x00\x00\x00\x00\x03lo\n"
	got := map[byte]string{}
	o := &Output{&answer{body: strings.NewReader(raw)}}
	if err := o.Copy(func(s byte, b []byte) { got[s] += string(b) }); err != nil || got[1] != "hello\n" || got[2] != "err\n" {
		t.Errorf("%q, %v", got, err)
	}
	o = &Output{&answer{body: strings.NewReader("plain text of a terminal")}}
	if err := o.Copy(func(byte, []byte) {}); err == nil {
		t.Error("text without frames is taken for frames")
	}
}
