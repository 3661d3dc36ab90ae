package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/viamrobotics/webrtc/v3"
	"go.uber.org/zap"

	echopb "go.viam.com/utils/proto/rpc/examples/echo/v1"
	"go.viam.com/utils/rpc"
)

const (
	dialTimeout = 20 * time.Second
	onceTimeout = 10 * time.Second
)

func callerFlags(flags *flag.FlagSet) run {
	var target webrtcTarget
	flags.StringVar(&target.host, "host", "", "name of the robot")
	flags.StringVar(&target.signaling, "signaling", "", "plaintext signaling server: dial by WebRTC, and only so")
	flags.BoolVar(&target.noTrickle, "no-trickle", false, "send all candidates within the offer")
	flags.BoolVar(&target.forceRelay, "force-relay", false, "use relay candidates only")
	direct := flags.String("direct", "", "plaintext address of the robot: dial by gRPC, and only so")
	all := flags.Bool("suite", false, "run every check of calls")
	sessions := flags.Bool("sessions", false, "run every check of sessions, on a robot that has them and a motor m1")
	once := flags.String("json-once", "", "echo this message once and print the answer")
	return func(ctx context.Context, logger *zap.SugaredLogger) error {
		if (*direct == "") == (target.signaling == "") || (*direct == "" && target.host == "") {
			return errors.New("say either --host NAME --signaling ADDRESS, or --direct ADDRESS")
		}
		asked := 0
		for _, yes := range []bool{*all, *sessions, *once != ""} {
			if yes {
				asked++
			}
		}
		if asked != 1 {
			return errors.New("say one of --suite, --sessions and --json-once MESSAGE")
		}
		again := func(ctx context.Context) (rpc.ClientConn, error) { return dial(ctx, logger, target, *direct) }
		started := time.Now()
		conn, err := again(ctx)
		if err != nil {
			return fmt.Errorf("cannot dial: %w", err)
		}
		defer func() { _ = conn.Close() }()
		client := newRobot(conn)
		dialed := report{Check: "dial", OK: true, Detail: fmt.Sprintf("%s in %v", kind(conn), time.Since(started))}
		switch {
		case *all:
			return runSuite(ctx, client, dialed, suite)
		case *sessions:
			return runSuite(ctx, client, dialed, sessionSuite(again))
		}
		return echoOnce(ctx, client, dialed, *once)
	}
}

// A report is what one check came to, printed as one line of JSON.
type report struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func (r report) print() { _ = json.NewEncoder(os.Stdout).Encode(r) }

// runSuite prints a line for each check, then DONE; the error says how many failed.
func runSuite(ctx context.Context, client robot, dialed report, suite []check) error {
	dialed.print()
	failed := 0
	for _, check := range suite {
		err := check.run(ctx, client)
		line := report{Check: check.name, OK: err == nil}
		if err != nil {
			failed++
			line.Detail = err.Error()
		}
		line.print()
	}
	fmt.Println("DONE")
	if failed != 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(suite))
	}
	return nil
}

func echoOnce(ctx context.Context, client robot, dialed report, message string) error {
	ctx, cancel := context.WithTimeout(ctx, onceTimeout)
	defer cancel()
	dialed.print()
	response, err := client.Echo(ctx, &echopb.EchoRequest{Message: message})
	if err != nil {
		report{Check: "echo", Detail: err.Error()}.print()
		return err
	}
	report{Check: "echo", OK: true, Detail: response.GetMessage()}.print()
	return nil
}

func dial(ctx context.Context, logger *zap.SugaredLogger, target webrtcTarget, direct string) (rpc.ClientConn, error) {
	if direct == "" {
		return dialWebRTC(ctx, logger, target)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := rpc.Dial(ctx, direct, logger, rpc.WithInsecure(), rpc.WithForceDirectGRPC())
	if err == nil && conn.PeerConn() != nil {
		return nil, errors.Join(errors.New("asked for direct gRPC, got WebRTC"), conn.Close())
	}
	return conn, err
}

// A webrtcTarget is a robot to be reached by WebRTC through a plaintext signaling server.
type webrtcTarget struct {
	host, signaling       string
	noTrickle, forceRelay bool
}

// dialWebRTC connects by WebRTC or not at all, on which a test must be able to rely.
func dialWebRTC(ctx context.Context, logger *zap.SugaredLogger, target webrtcTarget) (rpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := rpc.Dial(ctx, target.host, logger,
		rpc.WithInsecure(),
		rpc.WithDialMulticastDNSOptions(rpc.DialMulticastDNSOptions{Disable: true}),
		rpc.WithDisableDirectGRPC(),
		rpc.WithWebRTCOptions(rpc.DialWebRTCOptions{
			SignalingInsecure:      true,
			SignalingServerAddress: target.signaling,
			DisableTrickleICE:      target.noTrickle,
			ForceRelay:             target.forceRelay,
			// No ICE servers but those of signaling: the default ones are on the Internet.
			Config: &webrtc.Configuration{},
		}),
	)
	if err == nil && conn.PeerConn() == nil {
		return nil, errors.Join(errors.New("asked for WebRTC, got direct gRPC"), conn.Close())
	}
	return conn, err
}

func kind(conn rpc.ClientConn) string {
	if conn.PeerConn() == nil {
		return "direct"
	}
	return "webrtc"
}
