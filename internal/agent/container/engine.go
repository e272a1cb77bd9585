package container

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// api is the version asked for: the oldest that Docker 29 still answers, and one that Podman's service knows.
const api = "/v1.44"

// Engine is one container engine, reached through its socket.
type Engine struct {
	Kind   string `json:"kind"` // docker or podman
	Socket string `json:"socket"`
}

// String is the form in which a node lists it.
func (e Engine) String() string { return e.Kind + ":" + e.Socket }

// Sockets lists where engines usually listen, for a user.
func Sockets(uid int) []string {
	return []string{
		"/var/run/docker.sock", "/run/podman/podman.sock",
		fmt.Sprintf("/run/user/%d/docker.sock", uid), fmt.Sprintf("/run/user/%d/podman/podman.sock", uid),
	}
}

// Find returns the engines that answer, in the order of sockets.
func Find(ctx context.Context, sockets []string) []Engine {
	var found []Engine
	for _, s := range sockets {
		e := Engine{Kind: "docker", Socket: s}
		a, err := e.call(ctx, "GET", "/_ping", nil)
		if err != nil {
			continue // nothing there, or no right to it: the list of what was looked for tells
		}
		_ = a.conn.Close() // read only
		if a.status != 200 {
			continue
		}
		if _, libpod := a.header["libpod-api-version"]; libpod {
			e.Kind = "podman"
		}
		if !slices.Contains(found, e) {
			found = append(found, e)
		}
	}
	return found
}

// Spec is one container.
type Spec struct {
	Name       string
	Image      string
	Entrypoint []string // empty: the image's own
	Args       []string
	Env        []string
	Labels     map[string]string
	MemoryMB   int64
	CPUMilli   int64
	Pids       int64
	GPUs       []string // UUIDs
}

type createRequest struct {
	Image      string
	Entrypoint []string `json:",omitempty"`
	Cmd        []string `json:",omitempty"`
	Env        []string
	Labels     map[string]string
	HostConfig hostConfig
}

type hostConfig struct {
	Memory         int64           `json:",omitempty"`
	MemorySwap     int64           `json:",omitempty"` // memory and swap together: equal to Memory closes swap
	NanoCpus       int64           `json:",omitempty"`
	PidsLimit      int64           `json:",omitempty"`
	LogConfig      logConfig       // none: the shim keeps the output, once
	DeviceRequests []deviceRequest `json:",omitempty"`
}

type logConfig struct{ Type string }

type deviceRequest struct {
	Driver       string
	DeviceIDs    []string
	Capabilities [][]string
}

// Pull fetches the image unless the engine has it. It may take long; ctx ends it.
func (e Engine) Pull(ctx context.Context, image string) error {
	err := e.do(ctx, "GET", api+"/images/"+image+"/json", nil, nil)
	var refused *Error
	if err == nil || !errors.As(err, &refused) || refused.Status != 404 {
		return err
	}
	if _, tag, _ := strings.Cut(image[strings.LastIndexByte(image, '/')+1:], ":"); tag == "" && !strings.Contains(image, "@") {
		image += ":latest" // without a tag the engine would fetch all of them
	}
	a, err := e.call(ctx, "POST", api+"/images/create?fromImage="+url.QueryEscape(image), nil)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	if a.status >= 300 {
		data, err := io.ReadAll(io.LimitReader(a.body, maxBody))
		return errors.Join(refusal(a.status, data), err)
	}
	// Progress comes line by line, and with it the news of a failure: the status was sent before.
	for d := json.NewDecoder(a.body); ; {
		var line struct {
			Error string `json:"error"`
		}
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("pull image %s: %w", image, err)
		}
		if line.Error != "" {
			return &Error{Status: a.status, Message: line.Error}
		}
	}
}

// Create makes the container, not running. One of the same name is removed first: it is of a start that never happened.
func (e Engine) Create(ctx context.Context, s Spec) error {
	if err := e.Remove(ctx, s.Name); err != nil {
		return err
	}
	req := createRequest{
		Image: s.Image, Entrypoint: s.Entrypoint, Cmd: s.Args, Env: s.Env, Labels: s.Labels,
		HostConfig: hostConfig{
			Memory: s.MemoryMB << 20, MemorySwap: s.MemoryMB << 20, NanoCpus: s.CPUMilli * 1_000_000, PidsLimit: s.Pids,
			LogConfig: logConfig{Type: "none"},
		},
	}
	if len(s.GPUs) > 0 {
		req.HostConfig.DeviceRequests = []deviceRequest{{Driver: "nvidia", DeviceIDs: s.GPUs, Capabilities: [][]string{{"gpu"}}}}
	}
	return e.do(ctx, "POST", api+"/containers/create?name="+url.QueryEscape(s.Name), req, nil)
}

// Start runs a container that was created.
func (e Engine) Start(ctx context.Context, name string) error {
	return e.do(ctx, "POST", api+"/containers/"+url.PathEscape(name)+"/start", nil, nil)
}

// Kill sends a signal to its first process. One that does not run is no error.
func (e Engine) Kill(ctx context.Context, name, signal string) error {
	err := e.do(ctx, "POST", api+"/containers/"+url.PathEscape(name)+"/kill?signal="+signal, nil, nil)
	var refused *Error
	if errors.As(err, &refused) && (refused.Status == 404 || refused.Status == 409) {
		return nil
	}
	return err
}

// Remove kills and deletes the container. One that is not there is no error.
func (e Engine) Remove(ctx context.Context, name string) error {
	err := e.do(ctx, "DELETE", api+"/containers/"+url.PathEscape(name)+"?force=1&v=1", nil, nil)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == 404 {
		return nil
	}
	return err
}

// State is what the engine says of a container.
type State struct {
	Running   bool
	Pid       int
	ExitCode  int
	OOMKilled bool
	Error     string
}

// Inspect asks for the state.
func (e Engine) Inspect(ctx context.Context, name string) (State, error) {
	var out struct{ State State }
	err := e.do(ctx, "GET", api+"/containers/"+url.PathEscape(name)+"/json", nil, &out)
	return out.State, err
}

// Wait returns when the container does not run.
func (e Engine) Wait(ctx context.Context, name string) error {
	var out struct{ StatusCode int }
	return e.do(ctx, "POST", api+"/containers/"+url.PathEscape(name)+"/wait", nil, &out)
}

// Output is the container's attached output, frame by frame.
type Output struct{ a *answer }

// Attach connects to the output of a container that was created, so that none of it is missed.
func (e Engine) Attach(ctx context.Context, name string) (*Output, error) {
	a, err := e.call(ctx, "POST", api+"/containers/"+url.PathEscape(name)+"/attach?stream=1&stdout=1&stderr=1", nil,
		"Connection: Upgrade", "Upgrade: tcp")
	if err != nil {
		return nil, err
	}
	if a.status != 101 && a.status != 200 {
		data, err := io.ReadAll(io.LimitReader(a.body, maxBody))
		return nil, errors.Join(refusal(a.status, data), err, a.conn.Close())
	}
	return &Output{a}, nil
}

// Copy hands the output to write until it ends; stream is 1 or 2. Frames are a byte for the stream, three zeros, the
// length in four bytes, and the data.
func (o *Output) Copy(write func(stream byte, data []byte)) error {
	buf := make([]byte, 16<<10)
	var head [8]byte
	for {
		if _, err := io.ReadFull(o.a.body, head[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("read container output: %w", err)
		}
		if head[0] > 2 || head[1]|head[2]|head[3] != 0 {
			return errors.New("read container output: not a frame: " + strconv.Quote(string(head[:])))
		}
		for left := int(binary.BigEndian.Uint32(head[4:])); left > 0; {
			n, err := o.a.body.Read(buf[:min(len(buf), left)])
			left -= n
			write(max(head[0], 1), buf[:n])
			if err != nil && left > 0 {
				return fmt.Errorf("read container output: %w", err)
			}
		}
	}
}

// Close ends the connection, and with it Copy.
func (o *Output) Close() error { return o.a.conn.Close() }
