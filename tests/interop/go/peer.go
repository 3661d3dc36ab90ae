package main

import (
	"context"
	"flag"
	"net"
	"time"

	"farlink-interop/protocol"

	"github.com/viamrobotics/ice/v2"
	"github.com/viamrobotics/webrtc/v3"
	"go.uber.org/zap"
)

func peerFlags(*flag.FlagSet) run {
	return func(context.Context, *zap.SugaredLogger) error {
		protocol.Run(openPeer)
		return nil
	}
}

// The pion that goutils is built on, at the versions that goutils pins, set up as rpc/wrtc_peer.go does; but it asks
// no mDNS.
type peer struct {
	connection *webrtc.PeerConnection
	data       *webrtc.DataChannel
}

func openPeer(events protocol.Events) (protocol.Connection, error) {
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetRelayAcceptanceMinWait(3 * time.Second)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.To4() != nil })
	connection, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	data, err := negotiated(connection, "data", 0)
	if err != nil {
		return nil, err
	}
	if _, err := negotiated(connection, "negotiation", 1); err != nil {
		return nil, err
	}
	connection.OnICECandidate(func(found *webrtc.ICECandidate) {
		if found == nil {
			events.Candidate(protocol.Candidate{})
			return
		}
		init := found.ToJSON()
		events.Candidate(protocol.Candidate{
			Candidate: init.Candidate, SDPMid: init.SDPMid, SDPMLineIndex: init.SDPMLineIndex,
			UsernameFragment: init.UsernameFragment,
		})
	})
	connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			events.Closed(state.String())
		}
	})
	data.OnOpen(events.Opened)
	data.OnMessage(func(message webrtc.DataChannelMessage) { events.Message(message.Data) })
	data.OnClose(func() { events.Closed("channel") })
	return &peer{connection, data}, nil
}

func negotiated(connection *webrtc.PeerConnection, label string, id uint16) (*webrtc.DataChannel, error) {
	yes := true
	return connection.CreateDataChannel(label, &webrtc.DataChannelInit{Ordered: &yes, Negotiated: &yes, ID: &id})
}

func (it *peer) Offer(gathered bool) (protocol.Description, error) {
	offer, err := it.connection.CreateOffer(nil)
	if err != nil {
		return protocol.Description{}, err
	}
	return it.local(offer, gathered)
}

func (it *peer) Answer(offer protocol.Description, gathered bool) (protocol.Description, error) {
	if err := it.remote(webrtc.SDPTypeOffer, offer.SDP); err != nil {
		return protocol.Description{}, err
	}
	answer, err := it.connection.CreateAnswer(nil)
	if err != nil {
		return protocol.Description{}, err
	}
	return it.local(answer, gathered)
}

func (it *peer) Accept(answer protocol.Description) error {
	return it.remote(webrtc.SDPTypeAnswer, answer.SDP)
}

func (it *peer) local(made webrtc.SessionDescription, gathered bool) (protocol.Description, error) {
	complete := webrtc.GatheringCompletePromise(it.connection)
	if err := it.connection.SetLocalDescription(made); err != nil {
		return protocol.Description{}, err
	}
	if gathered {
		<-complete
		made = *it.connection.LocalDescription()
	}
	return protocol.Description{Type: made.Type.String(), SDP: made.SDP}, nil
}

func (it *peer) remote(kind webrtc.SDPType, sdp string) error {
	return it.connection.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp})
}

func (it *peer) AddCandidate(candidate protocol.Candidate) error {
	return it.connection.AddICECandidate(webrtc.ICECandidateInit{
		Candidate: candidate.Candidate, SDPMid: candidate.SDPMid, SDPMLineIndex: candidate.SDPMLineIndex,
		UsernameFragment: candidate.UsernameFragment,
	})
}

func (it *peer) Send(message []byte) error { return it.data.Send(message) }
func (it *peer) Buffered() uint64          { return it.data.BufferedAmount() }
func (it *peer) Close() error              { return it.connection.Close() }
