package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	webrtcpb "go.viam.com/utils/proto/rpc/webrtc/v1"
	"go.viam.com/utils/rpc"
)

// How often answerers hear that signaling still holds them.
const heartbeatInterval = 15 * time.Second

func signalingFlags(flags *flag.FlagSet) run {
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
	turn := flags.String("turn", "", "URL of a TURN server to hand out")
	username := flags.String("turn-username", "", "user name for --turn")
	credential := flags.String("turn-credential", "", "password for --turn")
	return func(ctx context.Context, logger *zap.SugaredLogger) error {
		var config rpc.WebRTCConfigProvider
		if *turn != "" {
			config = fixedConfig{&webrtcpb.ICEServer{
				Urls: []string{*turn}, Username: *username, Credential: *credential,
			}}
		}
		return serveSignaling(ctx, logger, *listen, config)
	}
}

func serveSignaling(
	ctx context.Context, logger *zap.SugaredLogger, listen string, config rpc.WebRTCConfigProvider,
) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	queue := rpc.NewMemoryWebRTCCallQueue(logger)
	defer func() { _ = queue.Close() }()
	signaling := rpc.NewWebRTCSignalingServer(queue, config, logger, heartbeatInterval)
	defer signaling.Close()

	// goutils pings every 10 s; grpc-go's own policy would send waiting answerers away for it.
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
		MinTime:             rpc.KeepAliveTime / 2,
		PermitWithoutStream: true,
	}))
	webrtcpb.RegisterSignalingServiceServer(server, signaling)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()

	fmt.Println("LISTENING", listener.Addr())
	return server.Serve(listener)
}

// fixedConfig hands the same ICE server to everybody.
type fixedConfig struct{ server *webrtcpb.ICEServer }

func (c fixedConfig) Config(context.Context) (rpc.WebRTCConfig, error) {
	return rpc.WebRTCConfig{
		ICEServers: []*webrtcpb.ICEServer{c.server},
		Expires:    time.Now().Add(time.Hour),
	}, nil
}
