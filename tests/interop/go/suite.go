package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echopb "go.viam.com/utils/proto/rpc/examples/echo/v1"
)

// A robot is one that answers, as a caller sees it.
type robot struct {
	echopb.EchoServiceClient
	conn grpc.ClientConnInterface
}

func newRobot(conn grpc.ClientConnInterface) robot {
	return robot{echopb.NewEchoServiceClient(conn), conn}
}

type check struct {
	name string
	call func(context.Context, robot) error
}

// The calls that every robot must answer as ../README.md says. The Rust side has the same list.
var suite = []check{
	{"unary", checkUnary},
	{"empty", checkEmpty},
	{"server_stream", checkServerStream},
	{"empty_server_stream", checkEmptyServerStream},
	{"bidi", checkBidi},
	{"error_status", checkErrorStatus},
	{"error_after_messages", checkErrorAfterMessages},
	{"error_within_bidi", checkErrorWithinBidi},
	{"unimplemented", checkUnimplemented},
	{"metadata", checkMetadata},
	{"stream_metadata", checkStreamMetadata},
	{"response_1mib", checkResponse1MiB},
	{"echo_1mib", checkEcho1MiB},
	{"echo_5mib", checkEcho5MiB},
	{"deadline", checkDeadline},
	{"cancel", checkCancel},
	{"concurrent_100", checkConcurrent},
}

const (
	checkTimeout = 30 * time.Second
	mebibyte     = 1 << 20
)

func (c check) run(ctx context.Context, client robot) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.call(ctx, client)
}

// echo expects want for message, and says little about it when texts are long.
func echo(ctx context.Context, client robot, message, want string) error {
	response, err := client.Echo(ctx, &echopb.EchoRequest{Message: message})
	if err != nil {
		return err
	}
	if got := response.GetMessage(); got != want {
		return fmt.Errorf("got %d bytes %.40q, want %d bytes %.40q", len(got), got, len(want), want)
	}
	return nil
}

func checkUnary(ctx context.Context, client robot) error {
	return echo(ctx, client, "hello, wörld ✓", "hello, wörld ✓")
}

func checkEmpty(ctx context.Context, client robot) error {
	return echo(ctx, client, "", "")
}

func checkServerStream(ctx context.Context, client robot) error {
	got, err := multiple(ctx, client, "streäm")
	if err != nil {
		return err
	}
	return equal(got, []string{"s", "t", "r", "e", "ä", "m"})
}

func checkEmptyServerStream(ctx context.Context, client robot) error {
	got, err := multiple(ctx, client, "")
	if err != nil {
		return err
	}
	return equal(got, nil)
}

func multiple(ctx context.Context, client robot, message string) ([]string, error) {
	stream, err := client.EchoMultiple(ctx, &echopb.EchoMultipleRequest{Message: message})
	if err != nil {
		return nil, err
	}
	return collect(stream)
}

// collect reads a server stream to its end; the error is nil when that was a good one.
func collect(stream echopb.EchoService_EchoMultipleClient) ([]string, error) {
	var got []string
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, response.GetMessage())
	}
}

// Each message is answered before the next is sent, and half-closing ends the call.
func checkBidi(ctx context.Context, client robot) error {
	stream, err := client.EchoBiDi(ctx)
	if err != nil {
		return err
	}
	for _, message := range []string{"one", "two", "dreiß"} {
		if err := bidiTurn(stream, message); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after half-close: got %v, want the end", err)
	}
	return nil
}

func bidiTurn(stream echopb.EchoService_EchoBiDiClient, message string) error {
	if err := stream.Send(&echopb.EchoBiDiRequest{Message: message}); err != nil {
		return err
	}
	for _, char := range message {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if response.GetMessage() != string(char) {
			return fmt.Errorf("got %q, want %q", response.GetMessage(), string(char))
		}
	}
	return nil
}

const (
	failureText    = "no mötor\n\"left\" ✗ 100%"
	failureMessage = "fail:5:" + failureText
)

func checkErrorStatus(ctx context.Context, client robot) error {
	_, err := client.Echo(ctx, &echopb.EchoRequest{Message: failureMessage})
	return expectFailure(err)
}

func checkErrorAfterMessages(ctx context.Context, client robot) error {
	got, err := multiple(ctx, client, failureMessage)
	return errors.Join(expectFailure(err), equal(got, strings.Split(failureMessage, "")))
}

func checkErrorWithinBidi(ctx context.Context, client robot) error {
	stream, err := client.EchoBiDi(ctx)
	if err != nil {
		return err
	}
	if err := bidiTurn(stream, failureMessage); err != nil {
		return err
	}
	_, err = stream.Recv()
	return expectFailure(err)
}

func expectFailure(err error) error {
	got := status.Convert(err)
	if got.Code() != codes.NotFound || got.Message() != failureText {
		return fmt.Errorf("got %v %q, want NotFound %q", got.Code(), got.Message(), failureText)
	}
	if len(got.Details()) != 1 {
		return fmt.Errorf("got %d details, want 1", len(got.Details()))
	}
	detail, ok := got.Details()[0].(*echopb.EchoRequest)
	if !ok || detail.GetMessage() != failureText {
		return fmt.Errorf("got detail %v, want an EchoRequest with the text", got.Details()[0])
	}
	return nil
}

func checkUnimplemented(ctx context.Context, client robot) error {
	err := client.conn.Invoke(ctx, "/proto.rpc.examples.echo.v1.EchoService/Missing",
		&echopb.EchoRequest{}, &echopb.EchoResponse{})
	return expectCode(err, codes.Unimplemented)
}

// No trailer here: goutils' unary calls return with the message and do not wait for it.
func checkMetadata(ctx context.Context, client robot) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-ask", "one", "x-ask", "two")
	var header metadata.MD
	response, err := client.Echo(ctx, &echopb.EchoRequest{Message: "meta"}, grpc.Header(&header))
	if err != nil {
		return err
	}
	return errors.Join(
		equal([]string{response.GetMessage()}, []string{"one,two"}),
		equal(header.Get("x-echo"), []string{"a", "b"}),
	)
}

func checkStreamMetadata(ctx context.Context, client robot) error {
	stream, err := client.EchoMultiple(ctx, &echopb.EchoMultipleRequest{Message: "meta"})
	if err != nil {
		return err
	}
	header, err := stream.Header()
	if err != nil {
		return err
	}
	got, err := collect(stream)
	if err != nil {
		return err
	}
	return errors.Join(
		equal(got, []string{"m", "e", "t", "a"}),
		equal(header.Get("x-echo"), []string{"a", "b"}),
		equal(stream.Trailer().Get("x-trailer"), []string{"t"}),
	)
}

func checkResponse1MiB(ctx context.Context, client robot) error {
	return echo(ctx, client, fmt.Sprintf("size:%d", mebibyte), strings.Repeat("x", mebibyte))
}

func checkEcho1MiB(ctx context.Context, client robot) error {
	return echoLarge(ctx, client, mebibyte)
}

func checkEcho5MiB(ctx context.Context, client robot) error {
	return echoLarge(ctx, client, 5*mebibyte)
}

func echoLarge(ctx context.Context, client robot, size int) error {
	// The pattern's length divides no packet's: packets swapped or repeated show.
	const pattern = "farlink carries it whole. "
	message := strings.Repeat(pattern, size/len(pattern)+1)[:size]
	return echo(ctx, client, message, message)
}

// goutils answers DeadlineExceeded from its own clock, or Canceled when the robot was first.
func checkDeadline(ctx context.Context, client robot) error {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := client.Echo(ctx, &echopb.EchoRequest{Message: "sleep:20000"})
	if late := time.Since(started); late > 5*time.Second {
		return fmt.Errorf("a deadline of 300ms took %v", late)
	}
	return expectCode(err, codes.DeadlineExceeded, codes.Canceled)
}

// A cancelled call ends here at once, and at the robot soon after.
func checkCancel(ctx context.Context, client robot) error {
	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.EchoBiDi(callCtx)
	if err != nil {
		return err
	}
	if err := bidiTurn(stream, "x"); err != nil {
		return err
	}
	if err := waitForRunning(ctx, client, "1"); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	cancel()
	_, recvErr := stream.Recv()
	if err := expectCode(recvErr, codes.Canceled); err != nil {
		return err
	}
	if err := waitForRunning(ctx, client, "0"); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	return nil
}

// waitForRunning asks until the robot runs as many calls: ends of calls reach it in their own time.
func waitForRunning(ctx context.Context, client robot, want string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := echo(ctx, client, "running", want)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func checkConcurrent(ctx context.Context, client robot) error {
	failures := make([]error, 100)
	var calls sync.WaitGroup
	for i := range failures {
		calls.Add(1)
		go func() {
			defer calls.Done()
			message := fmt.Sprintf("call %d", i)
			failures[i] = echo(ctx, client, message, message)
		}()
	}
	calls.Wait()
	return errors.Join(failures...)
}

func expectCode(err error, want ...codes.Code) error {
	// goutils returns bare context errors where it gives up by itself.
	got := status.Code(err)
	if got == codes.Unknown {
		got = status.FromContextError(err).Code()
	}
	if !slices.Contains(want, got) {
		return fmt.Errorf("got %v (%v), want %v", got, err, want)
	}
	return nil
}

func equal(got, want []string) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}
