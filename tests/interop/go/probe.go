package main

import (
	"bytes"
	"context"

	"farlink-interop/probe"
)

// Needs protoc (3.21.12), protoc-gen-go (v1.36.11) and protoc-gen-go-grpc (v1.5.1); nothing but this line does.
//
//go:generate protoc -I ../../proto --go_out=probe --go_opt=paths=source_relative,Mprobe.proto=farlink-interop/probe --go-grpc_out=probe --go-grpc_opt=paths=source_relative,Mprobe.proto=farlink-interop/probe probe.proto

// probeServer is as much of the Probe service (tests/proto/probe.proto) as benches ask for: sizes and counts.
// Its Rust twin, tests/common/service.rs, does all of it.
type probeServer struct{ probe.UnimplementedProbeServer }

func (probeServer) Unary(_ context.Context, req *probe.ProbeRequest) (*probe.ProbeResponse, error) {
	data := req.GetData()
	if size := req.GetSize(); size > 0 {
		data = letters(size)
	}
	return &probe.ProbeResponse{Data: data, Count: 1, Total: uint64(len(data))}, nil
}

func (probeServer) Spread(req *probe.ProbeRequest, stream probe.Probe_SpreadServer) error {
	data := letters(req.GetSize())
	for place := range req.GetCount() {
		// goutils' Send may go on after the caller is gone.
		if err := stream.Context().Err(); err != nil {
			return err
		}
		reply := &probe.ProbeResponse{Data: data, Count: uint64(place) + 1, Total: uint64(len(data))}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
	return nil
}

func letters(size uint32) []byte { return bytes.Repeat([]byte{'x'}, int(size)) }
