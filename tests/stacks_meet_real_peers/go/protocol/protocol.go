// Package protocol plays one side of peer connections as a test tells it, over lines of JSON on standard
// input and output; README.md, two folders up, has the words. What makes connections is behind Stack: there is
// a program for each, since their dependencies must not mix. tests/interop/go has a link to this file.
package protocol

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"
)

// Description is an RTCSessionDescription.
type Description struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// Candidate is an RTCIceCandidateInit. An empty text is the end of candidates.
type Candidate struct {
	Candidate        string  `json:"candidate"`
	SDPMid           *string `json:"sdpMid"`
	SDPMLineIndex    *uint16 `json:"sdpMLineIndex"`
	UsernameFragment *string `json:"usernameFragment"`
}

// Stack opens a connection with the channels "data" (0) and "negotiation" (1), both negotiated, and reports
// what comes of it to events, from any goroutine.
type Stack func(events Events) (Connection, error)

// Events is what a connection reports.
type Events struct {
	// Candidate gets each local candidate, and an empty one at the end.
	Candidate func(Candidate)
	// Opened is called at the instant at which the data channel opens.
	Opened func()
	// Message gets what came on the data channel; the slice is the callee's.
	Message func([]byte)
	// Closed is called when the data channel or the connection has ended, maybe more than once.
	Closed func(why string)
}

// Connection is one peer connection and its data channel.
type Connection interface {
	// Offer makes the offer; gathered waits for all candidates and has them in it.
	Offer(gathered bool) (Description, error)
	// Answer takes the offer and makes the answer.
	Answer(offer Description, gathered bool) (Description, error)
	// Accept takes the answer.
	Accept(answer Description) error
	// AddCandidate adds one of the other side; never called before the description.
	AddCandidate(candidate Candidate) error
	// Send sends a binary message on the data channel.
	Send(message []byte) error
	// Buffered is how many bytes wait to be sent.
	Buffered() uint64
	// Close ends it.
	Close() error
}

// Most bytes that wait to be sent.
const highWater = 1 << 20

type command struct {
	Do          string      `json:"do"`
	Session     int         `json:"session"`
	Role        string      `json:"role"`
	Trickle     bool        `json:"trickle"`
	Greet       bool        `json:"greet"`
	Description Description `json:"description"`
	Candidate   Candidate   `json:"candidate"`
	Sizes       []int       `json:"sizes"`
	Times       int         `json:"times"`
}

// Run plays until standard input ends.
func Run(stack Stack) {
	said := json.NewEncoder(os.Stdout)
	var saying sync.Mutex
	say := func(session int, event string, more map[string]any) {
		saying.Lock()
		defer saying.Unlock()
		line := map[string]any{"session": session, "event": event}
		maps.Copy(line, more)
		if said.Encode(line) != nil {
			os.Exit(1)
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	var now *session
	for lines.Scan() {
		var told command
		err := json.Unmarshal(lines.Bytes(), &told)
		switch {
		case err != nil:
		case told.Do == "start":
			if now != nil {
				// Beside the next one: where the other side has closed already, pion waits 400 ms for its own
				// ABORT to leave (sctp v1.12 Abort), and the next opening would be blamed for it.
				go now.end()
			}
			now, err = begin(stack, told, say)
		case now == nil:
			err = fmt.Errorf("%q before start", told.Do)
		default:
			err = now.obey(told)
		}
		if err != nil {
			say(told.Session, "error", map[string]any{"text": err.Error()})
		}
	}
	if now != nil {
		now.end()
	}
}

// One connection, from "start" to the next.
type session struct {
	say        func(event string, more map[string]any)
	connection Connection
	trickle    bool
	described  bool
	early      []Candidate

	mutex    sync.Mutex
	arrived  *sync.Cond
	inbox    [][]byte
	over     bool
	greeting sync.WaitGroup
}

func begin(stack Stack, told command, say func(int, string, map[string]any)) (*session, error) {
	it := &session{trickle: told.Trickle}
	it.arrived = sync.NewCond(&it.mutex)
	it.say = func(event string, more map[string]any) { say(told.Session, event, more) }
	it.greeting.Add(1)
	var once, closed sync.Once
	connection, err := stack(Events{
		Candidate: func(candidate Candidate) {
			if it.trickle {
				it.say("candidate", map[string]any{"candidate": candidate})
			}
		},
		Opened: func() {
			once.Do(func() {
				it.greeting.Wait()
				if told.Greet {
					if err := it.connection.Send(pattern(0, 5)); err != nil {
						it.say("error", map[string]any{"text": err.Error()})
					}
				}
				it.say("open", nil)
			})
		},
		Message: func(message []byte) {
			it.mutex.Lock()
			it.inbox = append(it.inbox, message)
			it.mutex.Unlock()
			it.arrived.Signal()
		},
		Closed: func(why string) {
			closed.Do(func() {
				it.say("closed", map[string]any{"text": why})
				it.mutex.Lock()
				it.over = true
				it.mutex.Unlock()
				it.arrived.Broadcast()
			})
		},
	})
	if err != nil {
		return nil, err
	}
	it.connection = connection
	it.greeting.Done()
	if told.Role == "offer" {
		offer, err := connection.Offer(!it.trickle)
		if err != nil {
			return it, err
		}
		it.say("description", map[string]any{"description": offer})
	}
	return it, nil
}

func (it *session) obey(told command) error {
	switch told.Do {
	case "description":
		return it.describe(told.Description)
	case "candidate":
		if !it.described {
			it.early = append(it.early, told.Candidate)
			return nil
		}
		return it.connection.AddCandidate(told.Candidate)
	case "burst":
		go it.reporting("sent", func() error { return it.burst(told) })
	case "expect":
		go it.reporting("got", func() error { return it.expect(told) })
	case "echo":
		go it.reporting("echoed", func() error { return it.echo(told.Times) })
	case "close":
		return it.connection.Close()
	default:
		return fmt.Errorf("unknown %q", told.Do)
	}
	return nil
}

func (it *session) describe(description Description) error {
	if description.Type == "offer" {
		answer, err := it.connection.Answer(description, !it.trickle)
		if err != nil {
			return err
		}
		it.say("description", map[string]any{"description": answer})
	} else if err := it.connection.Accept(description); err != nil {
		return err
	}
	it.described = true
	for _, candidate := range it.early {
		if err := it.connection.AddCandidate(candidate); err != nil {
			return err
		}
	}
	it.early = nil
	return nil
}

func (it *session) reporting(done string, work func() error) {
	if err := work(); err != nil {
		it.say("error", map[string]any{"text": err.Error()})
		return
	}
	it.say(done, nil)
}

// Sends messages of these sizes, so many times over.
func (it *session) burst(told command) error {
	for number := range told.Times * len(told.Sizes) {
		if err := it.send(pattern(number, told.Sizes[number%len(told.Sizes)])); err != nil {
			return err
		}
	}
	return nil
}

// Waits for what the other side's burst sends.
func (it *session) expect(told command) error {
	for number := range told.Times * len(told.Sizes) {
		message, err := it.next()
		if err != nil {
			return fmt.Errorf("message %d: %w", number, err)
		}
		expected := pattern(number, told.Sizes[number%len(told.Sizes)])
		if string(message) != string(expected) {
			return fmt.Errorf("message %d has %d bytes and should have %d, or others", number, len(message),
				len(expected))
		}
	}
	return nil
}

// Sends back the next messages, so many.
func (it *session) echo(times int) error {
	for range times {
		message, err := it.next()
		if err != nil {
			return err
		}
		if err := it.send(message); err != nil {
			return err
		}
	}
	return nil
}

func (it *session) send(message []byte) error {
	for it.connection.Buffered() > highWater {
		time.Sleep(time.Millisecond)
	}
	return it.connection.Send(message)
}

func (it *session) next() ([]byte, error) {
	it.mutex.Lock()
	defer it.mutex.Unlock()
	for len(it.inbox) == 0 {
		if it.over {
			return nil, fmt.Errorf("closed")
		}
		it.arrived.Wait()
	}
	message := it.inbox[0]
	it.inbox = it.inbox[1:]
	return message, nil
}

func (it *session) end() {
	it.mutex.Lock()
	it.over = true
	it.mutex.Unlock()
	it.arrived.Broadcast()
	if it.connection != nil {
		_ = it.connection.Close()
	}
}

// The bytes of the message of this number and size, the same on both sides: the number, as far as it fits,
// least byte first, and a run.
func pattern(number, size int) []byte {
	message := make([]byte, size)
	for at := range message {
		if at < 4 {
			message[at] = byte(number >> (8 * at))
		} else {
			message[at] = byte((number + at) % 251)
		}
	}
	return message
}
