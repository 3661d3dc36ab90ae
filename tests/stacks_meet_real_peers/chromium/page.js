// Plays one side of peer connections in a browser. ../README.md has the words; `say` is the test's binding,
// `obey` is called for each of them.
"use strict";

const HIGH_WATER = 1 << 20;
let session;

function obey(told) {
  if (told.do === "start") {
    session?.end();
    session = new Session(told);
  }
  const it = session;
  it.obey(told).catch((error) => it.say("error", { text: String(error.stack ?? error) }));
}

class Session {
  constructor(told) {
    this.number = told.session;
    this.trickle = told.trickle;
    this.inbox = [];
    this.early = [];
    this.described = false;
    this.over = false;
    this.peer = new RTCPeerConnection();
    this.data = this.peer.createDataChannel("data", { negotiated: true, id: 0 });
    this.peer.createDataChannel("negotiation", { negotiated: true, id: 1 });
    this.data.binaryType = "arraybuffer";
    this.data.onopen = () => {
      if (told.greet) this.data.send(pattern(0, 5));
      this.say("open");
    };
    this.data.onmessage = (event) => {
      this.inbox.push(new Uint8Array(event.data));
      this.arrived?.();
    };
    this.data.onclose = () => this.closed("channel");
    this.peer.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(this.peer.connectionState)) this.closed(this.peer.connectionState);
    };
    this.gathered = new Promise((resolve) => {
      this.peer.onicecandidate = ({ candidate }) => {
        if (this.trickle) this.say("candidate", { candidate: candidate ?? { candidate: "" } });
        if (!candidate) resolve();
      };
    });
  }

  say(event, more) {
    if (session === this) say(JSON.stringify({ session: this.number, event, ...more }));
  }

  closed(text) {
    if (this.over) return;
    this.over = true;
    this.say("closed", { text });
    this.arrived?.();
  }

  async obey(told) {
    switch (told.do) {
      case "start":
        if (told.role === "offer") await this.describe(await this.peer.createOffer());
        return;
      case "description":
        await this.peer.setRemoteDescription(told.description);
        if (told.description.type === "offer") await this.describe(await this.peer.createAnswer());
        this.described = true;
        for (const candidate of this.early) await this.peer.addIceCandidate(candidate);
        return;
      case "candidate":
        if (this.described) await this.peer.addIceCandidate(told.candidate);
        else this.early.push(told.candidate);
        return;
      case "burst":
        for (const [number, size] of numbered(told)) await this.send(pattern(number, size));
        return this.say("sent");
      case "expect":
        for (const [number, size] of numbered(told)) {
          const message = await this.next();
          const expected = pattern(number, size);
          if (message.length !== size || !message.every((byte, at) => byte === expected[at]))
            throw new Error(`message ${number}: ${message.length} bytes, should be ${size}, or others`);
        }
        return this.say("got");
      case "echo":
        for (let count = 0; count < told.times; count++) await this.send(await this.next());
        return this.say("echoed");
      case "close":
        return this.peer.close();
      default:
        throw new Error(`unknown ${told.do}`);
    }
  }

  async describe(made) {
    await this.peer.setLocalDescription(made);
    if (!this.trickle) await this.gathered;
    const { type, sdp } = this.trickle ? made : this.peer.localDescription;
    this.say("description", { description: { type, sdp } });
  }

  async send(message) {
    while (this.data.bufferedAmount > HIGH_WATER) await new Promise((resolve) => setTimeout(resolve, 1));
    this.data.send(message);
  }

  async next() {
    while (this.inbox.length === 0) {
      if (this.over) throw new Error("closed");
      await new Promise((resolve) => (this.arrived = resolve));
    }
    return this.inbox.shift();
  }

  end() {
    this.over = true;
    this.peer.close();
    this.arrived?.();
  }
}

function* numbered({ sizes, times }) {
  for (let number = 0; number < times * sizes.length; number++) yield [number, sizes[number % sizes.length]];
}

function pattern(number, size) {
  const message = new Uint8Array(size);
  for (let at = 0; at < size; at++) message[at] = at < 4 ? number >> (8 * at) : (number + at) % 251;
  return message;
}
