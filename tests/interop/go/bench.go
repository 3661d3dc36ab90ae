package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"farlink-interop/probe"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	benchHost  = "bench.robot"
	benchDials = 15
	atOnce     = 64
	streamSize = 16 << 10
	// goutils' first burst overflows the receiver's UDP buffer, and each such loss stands its stream still for a
	// second: what a shorter stream measures is luck.
	streamAtLeast = 5 * time.Second
)

var serialSizes = []int{64, 1 << 10, 16 << 10}

// Rows of benches/transports.rs, which prints their titles: what is measured, and how it is counted and printed, must
// be the same there and here.
//
// Rows of its own are of one process. For two: `robot` in one, and here that robot's address as --signaling or --direct.
func benchFlags(flags *flag.FlagSet) run {
	var target webrtcTarget
	flags.StringVar(&target.host, "host", "", "name of a robot that runs elsewhere and serves Probe")
	flags.StringVar(&target.signaling, "signaling", "", "plaintext signaling server of that robot: one row, by WebRTC")
	direct := flags.String("direct", "", "plaintext address of such a robot: one row, by gRPC")
	name := flags.String("name", "elsewhere", "name of that row")
	seconds := flags.Float64("seconds", 2, "time for each figure")
	return func(ctx context.Context, logger *zap.SugaredLogger) error {
		// pion says that agents were closed, for each dial. Its errors come out of the calls as well.
		if err := os.Setenv("PION_LOG_DISABLE", "all"); err != nil {
			return err
		}
		bench := bench{budget: time.Duration(*seconds * float64(time.Second))}
		elsewhere := func(ctx context.Context) (benched, error) { return dial(ctx, logger, target, *direct) }
		switch {
		case *direct == "" && target == webrtcTarget{}:
			return bench.ownRows(ctx, logger)
		case (*direct == "") == (target.signaling == "") || (target.signaling == "") != (target.host == ""):
			return errors.New("say --host NAME --signaling ADDRESS, or --direct ADDRESS, or neither")
		}
		return bench.row(ctx, *name, elsewhere)
	}
}

type bench struct{ budget time.Duration }

// benched is a connection: goutils' or grpc-go's own.
type benched interface {
	grpc.ClientConnInterface
	Close() error
}

type dialer func(context.Context) (benched, error)

// ownRows are those with caller and robot in this process: goutils over WebRTC, goutils without, and grpc-go.
func (b bench) ownRows(ctx context.Context, logger *zap.SugaredLogger) error {
	ctx, stop := context.WithCancel(ctx)
	said, ended := make(chan string, 2), make(chan error, 1)
	go func() {
		say := func(_, what string) { said <- what }
		ended <- serveRobot(ctx, logger, benchHost, "", "127.0.0.1:0", say)
	}()
	defer func() { stop(); <-ended }()
	var address string
	for _, what := range []*string{&address, new(string)} {
		select {
		case *what = <-said:
		case err := <-ended:
			ended <- nil
			return fmt.Errorf("no robot: %w", err)
		}
	}
	plain, err := plainServer(ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		b.row(ctx, "goutils/webrtc", func(ctx context.Context) (benched, error) {
			return dialWebRTC(ctx, logger, webrtcTarget{host: benchHost, signaling: address})
		}),
		b.row(ctx, "goutils/direct", func(ctx context.Context) (benched, error) {
			return dial(ctx, logger, webrtcTarget{}, address)
		}),
		b.row(ctx, "grpc-go", func(context.Context) (benched, error) {
			return grpc.NewClient(plain, grpc.WithTransportCredentials(insecure.NewCredentials()))
		}),
	)
}

// plainServer is grpc-go without goutils; its address.
func plainServer(ctx context.Context) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := grpc.NewServer()
	probe.RegisterProbeServer(server, probeServer{})
	context.AfterFunc(ctx, server.Stop)
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), nil
}

// row measures one connection and prints its line.
func (b bench) row(ctx context.Context, name string, dial dialer) error {
	dials, err := b.dials(ctx, dial)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	conn, err := dial(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = conn.Close() }()
	client := probe.NewProbeClient(conn)
	line := fmt.Sprintf("%-22s", name)
	for _, size := range serialSizes {
		times, err := b.serial(ctx, client, size)
		if err != nil {
			return fmt.Errorf("%s, %d bytes: %w", name, size, err)
		}
		micros := fmt.Sprintf("%d/%d", at(times, 50).Microseconds(), at(times, 99).Microseconds())
		line += fmt.Sprintf(" %10s", micros)
	}
	rate, err := b.parallel(ctx, client)
	if err != nil {
		return fmt.Errorf("%s, at once: %w", name, err)
	}
	speed, err := b.stream(ctx, client)
	if err != nil {
		return fmt.Errorf("%s, stream: %w", name, err)
	}
	fmt.Printf("%s %12.0f %12.1f %12.1f\n", line, rate, at(dials, 50).Seconds()*1e3, speed)
	return nil
}

// dials are the times from the beginning of a dial to the end of its first call.
func (b bench) dials(ctx context.Context, dial dialer) ([]time.Duration, error) {
	var times []time.Duration
	for range benchDials {
		began := time.Now()
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		_, err = probe.NewProbeClient(conn).Unary(ctx, &probe.ProbeRequest{})
		times = append(times, time.Since(began))
		if err := errors.Join(err, conn.Close()); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// serial is one call after the other.
func (b bench) serial(ctx context.Context, client probe.ProbeClient, size int) ([]time.Duration, error) {
	data := bytes.Repeat([]byte{7}, size)
	var times []time.Duration
	until := time.Now().Add(b.budget)
	for time.Now().Before(until) {
		began := time.Now()
		reply, err := client.Unary(ctx, &probe.ProbeRequest{Data: data})
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
		if got := len(reply.GetData()); got != size {
			return nil, fmt.Errorf("%d bytes came back", got)
		}
	}
	return times, nil
}

// at is a percentile.
func at(times []time.Duration, percent int) time.Duration {
	slices.Sort(times)
	return times[min(len(times)*percent/100, len(times)-1)]
}

// parallel is 64 calls of 64 bytes at once, calls per second.
func (b bench) parallel(ctx context.Context, client probe.ProbeClient) (float64, error) {
	began := time.Now()
	until := began.Add(b.budget)
	var calls atomic.Int64
	failures := make([]error, atOnce)
	var workers sync.WaitGroup
	for worker := range failures {
		workers.Go(func() {
			for time.Now().Before(until) && failures[worker] == nil {
				_, failures[worker] = client.Unary(ctx, &probe.ProbeRequest{Data: bytes.Repeat([]byte{7}, 64)})
				calls.Add(1)
			}
		})
	}
	workers.Wait()
	return float64(calls.Load()) / time.Since(began).Seconds(), errors.Join(failures...)
}

// stream is a server stream of messages of 16 KiB, MB/s, over the budget or five seconds, whichever is longer.
func (b bench) stream(ctx context.Context, client probe.ProbeClient) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	messages, err := client.Spread(ctx, &probe.ProbeRequest{Size: streamSize, Count: ^uint32(0)})
	if err != nil {
		return 0, err
	}
	received := 0
	for time.Since(began) < max(b.budget, streamAtLeast) {
		message, err := messages.Recv()
		if err != nil {
			return 0, err
		}
		received += len(message.GetData())
	}
	return float64(received) / time.Since(began).Seconds() / 1e6, nil
}
