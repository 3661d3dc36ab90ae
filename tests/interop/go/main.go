// Command farlink-interop plays the real peers that farlink is tested against: goutils as signaling
// server, as robot and as caller; and it measures them.
//
// Each subcommand says on standard output, one line each, what a test has to wait for (LISTENING,
// ANSWERING, DONE), stays on loopback unless told otherwise by --listen, and ends on SIGTERM or SIGINT.
// The rules of the Echo service that all test robots serve are in ../README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"
)

// A role is one subcommand: it declares its flags, and runs until it is done or ctx is.
type role struct {
	about string
	flags func(*flag.FlagSet) run
}

type run func(ctx context.Context, logger *zap.SugaredLogger) error

var roles = map[string]role{
	"signaling": {"where callers and robots meet", signalingFlags},
	"robot":     {"answers, and serves Echo", robotFlags},
	"caller":    {"dials, and checks what it reached", callerFlags},
	"bench":     {"measures calls, for benches/transports.rs", benchFlags},
	"peer":      {"plays one side of bare peer connections, for tests/stacks_meet_real_peers", peerFlags},
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	chosen, ok := roles[os.Args[1]]
	if !ok {
		usage()
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	debug := flags.Bool("debug", false, "log what goutils does, on standard error")
	start := chosen.flags(flags)
	_ = flags.Parse(os.Args[2:]) // ExitOnError
	if flags.NArg() != 0 {
		fmt.Fprintf(os.Stderr, "unexpected argument %q\n", flags.Arg(0))
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, newLogger(*debug)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: farlink-interop ROLE [flags]   (ROLE -h lists the flags)")
	for _, name := range []string{"signaling", "robot", "caller", "bench", "peer"} {
		fmt.Fprintf(os.Stderr, "  %-10s %s\n", name, roles[name].about)
	}
	os.Exit(2)
}

func newLogger(debug bool) *zap.SugaredLogger {
	if !debug {
		return zap.NewNop().Sugar()
	}
	logger, err := zap.NewDevelopment()
	if err != nil {
		return zap.NewNop().Sugar()
	}
	return logger.Sugar()
}
