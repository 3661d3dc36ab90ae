// Command farlink-peer plays a peer with pion's newest release. See ../README.md.
package main

import (
	"farlink-peer/protocol"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

func main() { protocol.Run(open) }

type connection struct {
	peer *webrtc.PeerConnection
	data *webrtc.DataChannel
}

func open(events protocol.Events) (protocol.Connection, error) {
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	peer, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	data, err := negotiated(peer, "data", 0)
	if err != nil {
		return nil, err
	}
	if _, err := negotiated(peer, "negotiation", 1); err != nil {
		return nil, err
	}
	peer.OnICECandidate(func(found *webrtc.ICECandidate) {
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
	peer.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			events.Closed(state.String())
		}
	})
	data.OnOpen(events.Opened)
	data.OnMessage(func(message webrtc.DataChannelMessage) { events.Message(message.Data) })
	data.OnClose(func() { events.Closed("channel") })
	return &connection{peer, data}, nil
}

func negotiated(peer *webrtc.PeerConnection, label string, id uint16) (*webrtc.DataChannel, error) {
	yes := true
	return peer.CreateDataChannel(label, &webrtc.DataChannelInit{Ordered: &yes, Negotiated: &yes, ID: &id})
}

func (it *connection) Offer(gathered bool) (protocol.Description, error) {
	offer, err := it.peer.CreateOffer(nil)
	if err != nil {
		return protocol.Description{}, err
	}
	return it.local(offer, gathered)
}

func (it *connection) Answer(offer protocol.Description, gathered bool) (protocol.Description, error) {
	if err := it.remote(webrtc.SDPTypeOffer, offer.SDP); err != nil {
		return protocol.Description{}, err
	}
	answer, err := it.peer.CreateAnswer(nil)
	if err != nil {
		return protocol.Description{}, err
	}
	return it.local(answer, gathered)
}

func (it *connection) Accept(answer protocol.Description) error {
	return it.remote(webrtc.SDPTypeAnswer, answer.SDP)
}

func (it *connection) local(made webrtc.SessionDescription, gathered bool) (protocol.Description, error) {
	complete := webrtc.GatheringCompletePromise(it.peer)
	if err := it.peer.SetLocalDescription(made); err != nil {
		return protocol.Description{}, err
	}
	if gathered {
		<-complete
		made = *it.peer.LocalDescription()
	}
	return protocol.Description{Type: made.Type.String(), SDP: made.SDP}, nil
}

func (it *connection) remote(kind webrtc.SDPType, sdp string) error {
	return it.peer.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp})
}

func (it *connection) AddCandidate(candidate protocol.Candidate) error {
	return it.peer.AddICECandidate(webrtc.ICECandidateInit{
		Candidate: candidate.Candidate, SDPMid: candidate.SDPMid, SDPMLineIndex: candidate.SDPMLineIndex,
		UsernameFragment: candidate.UsernameFragment,
	})
}

func (it *connection) Send(message []byte) error { return it.data.Send(message) }
func (it *connection) Buffered() uint64          { return it.data.BufferedAmount() }
func (it *connection) Close() error              { return it.peer.Close() }
