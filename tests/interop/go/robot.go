package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"time"

	"farlink-interop/probe"

	"github.com/viamrobotics/webrtc/v3"
	"go.uber.org/zap"

	echopb "go.viam.com/utils/proto/rpc/examples/echo/v1"
	"go.viam.com/utils/rpc"
)

func robotFlags(flags *flag.FlagSet) run {
	host := flags.String("host", "", "name to answer to (required)")
	signaling := flags.String("signaling", "", "plaintext signaling server to answer through as well")
	listen := flags.String("listen", "127.0.0.1:0", "address for direct gRPC and the robot's own signaling")
	return func(ctx context.Context, logger *zap.SugaredLogger) error {
		if *host == "" {
			return errors.New("--host is required")
		}
		say := func(word, what string) { fmt.Println(word, what) }
		return serveRobot(ctx, logger, *host, *signaling, *listen, say)
	}
}

// serveRobot serves until ctx is done. It says LISTENING with its address, and then ANSWERING with its name.
func serveRobot(
	ctx context.Context, logger *zap.SugaredLogger, host, signaling, listen string, say func(word, what string),
) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	// A caller that has nothing but an address uses it as the name, port included.
	names := []string{host, address}
	server, err := rpc.NewServer(logger,
		rpc.WithUnauthenticated(),
		rpc.WithDisableMulticastDNS(),
		rpc.WithInstanceNames(names...),
		rpc.WithWebRTCServerOptions(rpc.WebRTCServerOptions{
			Enable:                    true,
			ExternalSignalingAddress:  signaling,
			ExternalSignalingHosts:    []string{host},
			ExternalSignalingDialOpts: []rpc.DialOption{rpc.WithInsecure()},
			EnableInternalSignaling:   true,
			InternalSignalingHosts:    names,
			// No ICE servers: the default ones are on the Internet.
			Config: &webrtc.Configuration{},
		}),
	)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := server.RegisterServiceServer(
		ctx, &echopb.EchoService_ServiceDesc, &echoServer{}, echopb.RegisterEchoServiceHandlerFromEndpoint,
	); err != nil {
		return errors.Join(err, server.Stop(), listener.Close())
	}
	if err := server.RegisterServiceServer(ctx, &probe.Probe_ServiceDesc, probeServer{}); err != nil {
		return errors.Join(err, server.Stop(), listener.Close())
	}
	if err := server.Serve(listener); err != nil { // returns at once
		return errors.Join(err, server.Stop())
	}
	say("LISTENING", address)

	doors := []string{address}
	if signaling != "" {
		doors = append(doors, signaling)
	}
	for _, door := range doors {
		if err := waitUntilAnswering(ctx, logger, door, host); err != nil {
			break // ctx is done
		}
	}
	if ctx.Err() == nil {
		say("ANSWERING", host)
	}
	<-ctx.Done()
	return server.Stop()
}

// waitUntilAnswering returns once a caller gets through to the robot by way of this signaling server.
// goutils does not say when its answerer is connected, so the robot calls itself until it succeeds.
func waitUntilAnswering(ctx context.Context, logger *zap.SugaredLogger, signaling, host string) error {
	for {
		err := callOnce(ctx, logger, signaling, host)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		logger.Debugw("not answering yet", "signaling", signaling, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func callOnce(ctx context.Context, logger *zap.SugaredLogger, signaling, host string) error {
	conn, err := dialWebRTC(ctx, logger, webrtcTarget{host: host, signaling: signaling})
	if err != nil {
		return err
	}
	_, callErr := echopb.NewEchoServiceClient(conn).Echo(ctx, &echopb.EchoRequest{Message: "myself"})
	return errors.Join(callErr, conn.Close())
}
