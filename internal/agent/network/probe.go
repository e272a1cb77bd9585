package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// Bounds of probing. A peer that drops everything costs probes × probeTimeout.
const (
	probeTimeout  = 500 * time.Millisecond
	probePause    = 20 * time.Millisecond
	maxProbes     = 50
	maxPeers      = 8
	maxTries      = 8 // addresses of one peer
	maxPublished  = 8
	greetingLimit = 128
)

// Port answers probes until it is closed: it says whose it is, and hangs up.
type Port struct {
	listener net.Listener
	greeting string
	clk      clock.Clock
	closed   chan struct{}
	wg       sync.WaitGroup
}

// Listen opens a port for probes on address, such as ":0" or "127.0.0.1:0".
func Listen(ctx context.Context, clk clock.Clock, address, name string) (*Port, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Port{listener: l, greeting: nodeproto.ProbeGreeting(name), clk: clk, closed: make(chan struct{})}
	p.wg.Go(p.serve)
	return p, nil
}

// serve answers one probe after the other: each is a few bytes, and nothing is read.
func (p *Port) serve() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.rest() // that probe is gone; without file descriptors, so will be the next for now
			continue
		}
		_, _ = io.WriteString(conn, p.greeting) // a few bytes fit into the buffer of any connection; one that was left hears nothing
		_ = conn.Close()
	}
}

// rest waits for a moment, or until the port is closed.
func (p *Port) rest() {
	t := p.clk.NewTimer(probePause)
	defer t.Stop()
	select {
	case <-p.closed:
	case <-t.C():
	}
}

// Close ends it. It is called once.
func (p *Port) Close() error {
	close(p.closed)
	err := p.listener.Close()
	p.wg.Wait()
	return err
}

// Addresses lists the places at which others may reach the port.
func (p *Port) Addresses() []string {
	tcp, ok := p.listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	if !tcp.IP.IsUnspecified() {
		return []string{tcp.String()}
	}
	var out []string
	for _, ip := range machineIPs() {
		out = append(out, netip.AddrPortFrom(ip, uint16(tcp.Port)).String())
	}
	return out[:min(len(out), maxPublished)]
}

// Names lists what other machines may call this one: its host name and its addresses.
func Names() []string {
	var out []string
	if host, err := os.Hostname(); err == nil {
		out = append(out, host)
	}
	for _, ip := range machineIPs() {
		out = append(out, ip.String())
	}
	return out[:min(len(out), 2*maxPublished)]
}

// machineIPs are the addresses of this machine that others can reach, those of the fourth version first.
func machineIPs() []netip.Addr {
	var v4, v6 []netip.Addr
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // without them nobody can probe this node, which is said where it is tried
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() {
			continue
		}
		if ip := prefix.Addr().Unmap(); ip.Is4() {
			v4 = append(v4, ip)
		} else {
			v6 = append(v6, ip)
		}
	}
	return slices.Concat(v4, v6)
}

// Prober reaches out to other nodes.
type Prober struct {
	Clock clock.Clock
	Dial  func(ctx context.Context, address string) (net.Conn, error) // nil = over TCP
}

// Probe tries to reach every peer so many times, all peers at once.
func (p Prober) Probe(ctx context.Context, peers []nodeproto.Peer, probes int) []nodeproto.Pair {
	peers = peers[:min(len(peers), maxPeers)]
	out := make([]nodeproto.Pair, len(peers))
	var wg sync.WaitGroup
	for i := range peers {
		wg.Go(func() { out[i] = p.pair(ctx, peers[i], min(max(probes, 1), maxProbes)) })
	}
	wg.Wait()
	return out
}

// pair probes one peer at the first of its addresses where it answers; where none does, at the first that is not refused.
func (p Prober) pair(ctx context.Context, peer nodeproto.Peer, probes int) nodeproto.Pair {
	out := nodeproto.Pair{Node: peer.Node}
	address, why := p.find(ctx, peer)
	if address == "" {
		out.Reason = why
		return out
	}
	var took time.Duration
	for range probes {
		began := p.Clock.Now()
		reached := p.connect(ctx, address)
		if ctx.Err() != nil {
			out.Sent, out.Lost, out.Reason = 0, 0, "it was interrupted"
			return out
		}
		out.Sent++
		if !reached {
			out.Lost++
			continue
		}
		took += p.Clock.Now().Sub(began)
		p.pause(ctx)
	}
	if arrived := out.Sent - out.Lost; arrived > 0 {
		out.RTTUS = (took / time.Duration(arrived)).Microseconds()
	}
	return out
}

// find returns the address at which a peer is to be probed, or why there is none.
func (p Prober) find(ctx context.Context, peer nodeproto.Peer) (address, why string) {
	why = "its agent tells no place at which it answers probes"
	silent := ""
	for _, a := range peer.Addresses[:min(len(peer.Addresses), maxTries)] {
		switch name, err := p.greet(ctx, a); {
		case err == nil && name == nodeproto.ProbeGreeting(string(peer.Node)):
			return a, ""
		case err == nil:
			why = a + " is another machine"
		case errors.Is(err, syscall.ECONNREFUSED):
			why = "nobody answers probes at " + a
		case silent == "":
			silent = a
		}
	}
	return silent, why
}

// greet connects and returns who answers.
func (p Prober) greet(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := p.dial(ctx, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the reading, which is all that is left to do
	defer stop()
	data, err := io.ReadAll(io.LimitReader(conn, greetingLimit))
	if len(data) == 0 && err != nil {
		return "", err
	}
	return string(data), nil
}

// connect reports whether the way to an address works: a connection that is refused has been there and back.
func (p Prober) connect(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := p.dial(ctx, address)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close() // it was only opened
	return true
}

func (p Prober) dial(ctx context.Context, address string) (net.Conn, error) {
	if p.Dial != nil {
		return p.Dial(ctx, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

func (p Prober) pause(ctx context.Context) {
	t := p.Clock.NewTimer(probePause)
	defer t.Stop()
	select {
	case <-t.C():
	case <-ctx.Done():
	}
}

// Loopback reports whether the host of a gateway's address is this machine itself.
func Loopback(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}
