package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"go.viam.com/utils/rpc"
)

// What both ends of a session match to the byte.
const (
	sessionKey     = "viam-sid"
	resourceKey    = "viam-smrn"
	sessionExpired = "SESSION_EXPIRED"

	startSession = "/viam.robot.v1.RobotService/StartSession"
	sendBeat     = "/viam.robot.v1.RobotService/SendSessionHeartbeat"
	motorService = "/viam.component.motor.v1.MotorService/"

	motorName     = "m1"
	motorResource = "rdk:component:motor/m1"
	nobodysID     = "11111111-2222-4333-8444-555555555555"
)

// How much later than its window a robot may stop what has lost its session: for machines that are busy.
const stopSlack = time.Second

// The calls that a robot with sessions and a motor m1 must answer as ../README.md says. again dials the
// robot once more.
func sessionSuite(again func(context.Context) (rpc.ClientConn, error)) []check {
	return []check{
		{"session_start", checkSessionStart},
		{"session_resume", checkSessionResume},
		{"session_beats_then_expires", checkSessionBeatsThenExpires},
		{"session_refusals", checkSessionRefusals},
		{"session_other_connection", func(ctx context.Context, client robot) error {
			conn, err := again(ctx)
			if err != nil {
				return err
			}
			return errors.Join(checkSessionOtherConnection(ctx, client, newRobot(conn)), conn.Close())
		}},
		{"session_without", checkSessionWithout},
	}
}

type session struct {
	id     string
	window time.Duration
}

func checkSessionStart(ctx context.Context, client robot) error {
	first, err := client.start(ctx, "")
	if err != nil {
		return err
	}
	second, err := client.start(ctx, "")
	if err != nil {
		return err
	}
	if first.id == second.id {
		return fmt.Errorf("two starts, one session: %q", first.id)
	}
	return nil
}

func checkSessionResume(ctx context.Context, client robot) error {
	first, err := client.start(ctx, "")
	if err != nil {
		return err
	}
	again, err := client.start(ctx, first.id)
	if err != nil {
		return err
	}
	if again != first {
		return fmt.Errorf("resumed %v, got %v", first, again)
	}
	fresh, err := client.start(ctx, nobodysID)
	if err != nil {
		return err
	}
	if fresh.id == nobodysID || fresh.id == first.id {
		return fmt.Errorf("there is no session to resume, and got %q", fresh.id)
	}
	return nil
}

// A motor runs for as long as its session's heartbeats come, not a window longer, and not less either.
func checkSessionBeatsThenExpires(ctx context.Context, client robot) error {
	held, err := client.start(ctx, "")
	if err != nil {
		return err
	}
	header, err := client.setPower(ctx, 0.5, held.id)
	if err != nil {
		return err
	}
	if err := equal(header.Get(resourceKey), []string{motorResource}); err != nil {
		return fmt.Errorf("%s: %w", resourceKey, err)
	}
	var sent, acknowledged time.Time
	for began := time.Now(); time.Since(began) < 2*held.window; time.Sleep(held.window / 5) {
		sent = time.Now()
		if err := client.beat(ctx, held.id); err != nil {
			return fmt.Errorf("heartbeat after %v: %w", time.Since(began), err)
		}
		acknowledged = time.Now()
	}
	if err := client.expectMoving(ctx, true); err != nil {
		return fmt.Errorf("while its session is alive: %w", err)
	}
	for moving := true; moving; time.Sleep(5 * time.Millisecond) {
		if moving, err = client.isMoving(ctx); err != nil {
			return err
		}
		if silent := time.Since(acknowledged); moving && silent > held.window+stopSlack {
			return fmt.Errorf("it moves %v after the last heartbeat, the window being %v", silent, held.window)
		}
	}
	if silent := time.Since(sent); silent < held.window {
		return fmt.Errorf("it was stopped %v after a heartbeat, the window being %v", silent, held.window)
	}
	if err := expectExpired(client.beat(ctx, held.id)); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	_, err = client.setPower(ctx, 0.5, held.id)
	if err := expectExpired(err); err != nil {
		return fmt.Errorf("call: %w", err)
	}
	fresh, err := client.start(ctx, held.id)
	if err != nil {
		return err
	}
	if fresh.id == held.id {
		return errors.New("a session that had expired was resumed")
	}
	return client.expectMoving(ctx, false)
}

// Ids that are no good are refused in other words than those that clients wait for, and change nothing.
func checkSessionRefusals(ctx context.Context, client robot) error {
	held, err := client.start(ctx, "")
	if err != nil {
		return err
	}
	for name, sids := range map[string][]string{
		"unknown":   {nobodysID},
		"malformed": {"not-a-session"},
		"empty":     {""},
		"long":      {strings.Repeat("1", 4096)},
		"two":       {held.id, held.id},
	} {
		_, err := client.setPower(ctx, 0.5, sids...)
		if err := expectRefused(err); err != nil {
			return fmt.Errorf("call, %s: %w", name, err)
		}
		if len(sids) > 1 {
			continue
		}
		if err := expectRefused(client.beat(ctx, sids[0])); err != nil {
			return fmt.Errorf("heartbeat, %s: %w", name, err)
		}
	}
	if _, err := client.start(ctx, "not-a-session"); err == nil {
		return errors.New("something malformed was resumed")
	} else if err := expectRefused(err); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return errors.Join(client.beat(ctx, held.id), client.expectMoving(ctx, false))
}

// A session's calls come over its own connection, until it is resumed on another.
func checkSessionOtherConnection(ctx context.Context, client, other robot) error {
	held, err := client.start(ctx, "")
	if err != nil {
		return err
	}
	_, err = other.setPower(ctx, 0.5, held.id)
	if err := expectRefused(err); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	resumed, err := other.start(ctx, held.id)
	if err != nil {
		return err
	}
	if resumed.id != held.id {
		return fmt.Errorf("resumed %q, got %q", held.id, resumed.id)
	}
	if _, err := other.setPower(ctx, 0.5, held.id); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	_, err = client.setPower(ctx, 0.5, held.id)
	return errors.Join(expectRefused(err), other.stop(ctx), client.expectMoving(ctx, false))
}

// A caller without sessions drives as before, and what it drives is no other caller's to be stopped.
func checkSessionWithout(ctx context.Context, client robot) error {
	held, err := client.start(ctx, "")
	if err != nil {
		return err
	}
	if _, err := client.setPower(ctx, 0.5, held.id); err != nil {
		return err
	}
	if _, err := client.setPower(ctx, 0.4); err != nil {
		return err
	}
	time.Sleep(held.window + stopSlack/2)
	if err := expectExpired(client.beat(ctx, held.id)); err != nil {
		return err
	}
	return errors.Join(client.expectMoving(ctx, true), client.stop(ctx), client.expectMoving(ctx, false))
}

func expectExpired(err error) error {
	got := status.Convert(err)
	if got.Code() != codes.InvalidArgument || got.Message() != sessionExpired || len(got.Details()) != 0 {
		return fmt.Errorf("got %v with details %v, want InvalidArgument %q without", err, got.Details(), sessionExpired)
	}
	return nil
}

func expectRefused(err error) error {
	got := status.Convert(err)
	if got.Code() != codes.InvalidArgument || strings.Contains(got.Message(), sessionExpired) || len(got.Message()) > 300 {
		return fmt.Errorf("got %v, want InvalidArgument in other, few words than %q", err, sessionExpired)
	}
	return nil
}

func (r robot) start(ctx context.Context, resume string) (session, error) {
	answer, err := r.invoke(ctx, startSession, text(1, resume))
	if err != nil {
		return session{}, err
	}
	id, _ := field(answer, 1)
	if parsed, err := uuid.Parse(string(id)); err != nil || parsed.String() != string(id) {
		return session{}, fmt.Errorf("the session's id is no UUID: %q", id)
	}
	duration, ok := field(answer, 2)
	seconds, _ := number(duration, 1)
	nanos, _ := number(duration, 2)
	window := time.Duration(seconds)*time.Second + time.Duration(nanos)
	if !ok || window < 30*time.Millisecond || window > time.Minute {
		return session{}, fmt.Errorf("the window is there: %v, and %v", ok, window)
	}
	return session{string(id), window}, nil
}

func (r robot) beat(ctx context.Context, id string) error {
	_, err := r.invoke(ctx, sendBeat, text(1, id))
	return err
}

func (r robot) setPower(ctx context.Context, power float64, sids ...string) (metadata.MD, error) {
	for _, sid := range sids {
		ctx = metadata.AppendToOutgoingContext(ctx, sessionKey, sid)
	}
	request := protowire.AppendTag(text(1, motorName), 2, protowire.Fixed64Type)
	request = binary.LittleEndian.AppendUint64(request, math.Float64bits(power))
	var header metadata.MD
	_, err := r.invoke(ctx, motorService+"SetPower", request, grpc.Header(&header))
	return header, err
}

func (r robot) stop(ctx context.Context) error {
	_, err := r.invoke(ctx, motorService+"Stop", text(1, motorName))
	return err
}

func (r robot) isMoving(ctx context.Context) (bool, error) {
	answer, err := r.invoke(ctx, motorService+"IsMoving", text(1, motorName))
	moving, _ := number(answer, 1)
	return moving == 1, err
}

func (r robot) expectMoving(ctx context.Context, want bool) error {
	if moving, err := r.isMoving(ctx); err != nil || moving != want {
		return errors.Join(err, fmt.Errorf("the motor moves: %v, want %v", moving, want))
	}
	return nil
}

// invoke calls a method whose messages are written and read by hand, below: nobody else's generated code
// stands between this and the wire. To goutils they are empty messages with fields that it does not know.
func (r robot) invoke(
	ctx context.Context, method string, request []byte, options ...grpc.CallOption,
) ([]byte, error) {
	in, out := &emptypb.Empty{}, &emptypb.Empty{}
	in.ProtoReflect().SetUnknown(request)
	err := r.conn.Invoke(ctx, method, in, out, options...)
	return out.ProtoReflect().GetUnknown(), err
}

func text(field protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, field, protowire.BytesType), value)
}

// field is the content of a string, bytes or message field.
func field(message []byte, wanted protowire.Number) ([]byte, bool) {
	value, ok := find(message, wanted, protowire.BytesType)
	content, length := protowire.ConsumeBytes(value)
	return content, ok && length >= 0
}

// number is the value of an integer or bool field.
func number(message []byte, wanted protowire.Number) (uint64, bool) {
	value, ok := find(message, wanted, protowire.VarintType)
	content, length := protowire.ConsumeVarint(value)
	return content, ok && length >= 0
}

func find(message []byte, wanted protowire.Number, kind protowire.Type) ([]byte, bool) {
	for len(message) > 0 {
		got, gotKind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return nil, false
		}
		length := protowire.ConsumeFieldValue(got, gotKind, message[tag:])
		if length < 0 {
			return nil, false
		}
		if got == wanted && gotKind == kind {
			return message[tag : tag+length], true
		}
		message = message[tag+length:]
	}
	return nil, false
}
