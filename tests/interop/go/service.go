package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echopb "go.viam.com/utils/proto/rpc/examples/echo/v1"
)

// echoServer is the Echo service of ../README.md. Its Rust twin follows the same rules.
type echoServer struct {
	echopb.UnimplementedEchoServiceServer
	// Calls that are asleep, and bidirectional streams that are open.
	running atomic.Int64
}

func (s *echoServer) Echo(ctx context.Context, req *echopb.EchoRequest) (*echopb.EchoResponse, error) {
	text, err := s.answer(ctx, req.GetMessage())
	if err != nil {
		return nil, err
	}
	return &echopb.EchoResponse{Message: text}, nil
}

func (s *echoServer) answer(ctx context.Context, message string) (string, error) {
	command, argument, _ := strings.Cut(message, ":")
	switch {
	case command == "fail" && argument != "":
		return "", failure(message)
	case command == "size" && argument != "":
		size, err := strconv.Atoi(argument)
		if err != nil || size < 0 {
			return "", status.Errorf(codes.InvalidArgument, "not a size: %q", argument)
		}
		return strings.Repeat("x", size), nil
	case command == "sleep" && argument != "":
		millis, err := strconv.Atoi(argument)
		if err != nil || millis < 0 {
			return "", status.Errorf(codes.InvalidArgument, "not milliseconds: %q", argument)
		}
		return message, s.sleep(ctx, time.Duration(millis)*time.Millisecond)
	case message == "meta":
		return answerMetadata(ctx)
	case message == "running":
		return strconv.FormatInt(s.running.Load(), 10), nil
	}
	return message, nil
}

func (s *echoServer) sleep(ctx context.Context, pause time.Duration) error {
	s.running.Add(1)
	defer s.running.Add(-1)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func answerMetadata(ctx context.Context) (string, error) {
	if err := grpc.SetHeader(ctx, answerHeader()); err != nil {
		return "", err
	}
	if err := grpc.SetTrailer(ctx, answerTrailer()); err != nil {
		return "", err
	}
	return strings.Join(metadata.ValueFromIncomingContext(ctx, "x-ask"), ","), nil
}

func answerHeader() metadata.MD { return metadata.Pairs("x-echo", "a", "x-echo", "b") }

func answerTrailer() metadata.MD { return metadata.Pairs("x-trailer", "t") }

func (s *echoServer) EchoMultiple(
	req *echopb.EchoMultipleRequest, stream echopb.EchoService_EchoMultipleServer,
) error {
	if req.GetMessage() == "meta" {
		if err := stream.SetHeader(answerHeader()); err != nil {
			return err
		}
		stream.SetTrailer(answerTrailer())
	}
	for _, char := range req.GetMessage() {
		if err := stream.Send(&echopb.EchoMultipleResponse{Message: string(char)}); err != nil {
			return err
		}
	}
	return failure(req.GetMessage())
}

func (s *echoServer) EchoBiDi(stream echopb.EchoService_EchoBiDiServer) error {
	s.running.Add(1)
	defer s.running.Add(-1)
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, char := range req.GetMessage() {
			if err := stream.Send(&echopb.EchoBiDiResponse{Message: string(char)}); err != nil {
				return err
			}
		}
		if err := failure(req.GetMessage()); err != nil {
			return err
		}
	}
}

// failure is the status that a message "fail:<code>:<text>" asks for, nil for any other message.
func failure(message string) error {
	order, ok := strings.CutPrefix(message, "fail:")
	if !ok {
		return nil
	}
	number, text, ok := strings.Cut(order, ":")
	code, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || code == 0 {
		return status.Error(codes.InvalidArgument, fmt.Sprintf("not a failure: %q", message))
	}
	withDetail, err := status.New(codes.Code(code), text).WithDetails(&echopb.EchoRequest{Message: text})
	if err != nil {
		return err
	}
	return withDetail.Err()
}
