"use strict";

/* Plays one clip in several versions, which run in lockstep: all start at one sample of the audio clock, each through a
   gain of its own, and switching moves the gains alone. So the position stays exactly, and there is no gap. */
class ClipPlayer {
  /* context: function that gives the AudioContext; it is first called within a click or a key press (load or play),
     because browsers let audio begin only there. */
  constructor(context) {
    this.getContext = context;
    this.onchange = () => {}; // called after every change: loaded, playing, paused, switched, moved, ended
    this.onended = () => {}; // called when the clip came to its end by itself
    this.current = null; // key of the version that is heard
    this.playing = false;
    this.buffers = new Map();
    this.voices = new Map(); // key -> {source, gain}, of the start that is under way
    this.offset = 0; // position at the time `startedAt` of the audio clock, or while paused
    this.startedAt = 0;
    this.looping = false;
    this.loads = 0;
  }

  /* Where everything that is heard comes out; a volume or an analyser can be attached to it. */
  get output() {
    if (!this.outputNode) {
      this.outputNode = this.getContext().createGain();
      this.outputNode.connect(this.getContext().destination);
    }
    return this.outputNode;
  }

  /* Seconds; that of the shortest version. 0 where nothing is loaded. */
  get duration() {
    return this.buffers.size ? Math.min(...[...this.buffers.values()].map((buffer) => buffer.duration)) : 0;
  }

  /* Seconds from the beginning of the clip. */
  get position() {
    if (!this.playing) return this.offset;
    const position = this.offset + Math.max(0, this.getContext().currentTime - this.startedAt);
    return this.looping ? position % this.duration : Math.min(position, this.duration);
  }

  /* Whether the clip begins again at its end. */
  get loop() {
    return this.looping;
  }

  set loop(value) {
    // The position is counted anew from here, by the new rule.
    const now = this.playing ? this.getContext().currentTime : 0;
    if (now > this.startedAt) [this.offset, this.startedAt] = [this.position, now];
    this.looping = Boolean(value);
    for (const { source } of this.voices.values()) source.loop = this.looping;
    this.onchange();
  }

  /* Take the clip whose files are in `versions`, a Map of keys and ArrayBuffers (left as they are), in place of the one
     before, whose samples are dropped. Paused at the beginning then; `current` stays if the clip has it, otherwise it is
     the first. Gives false if another load began meanwhile and this one was dropped for it; throws an Error that names
     the version if the browser cannot decode it. */
  async load(versions) {
    const number = ++this.loads;
    const context = this.getContext();
    this.wake();
    this.halt();
    this.buffers = new Map();
    this.offset = 0;
    const decoded = await Promise.all(
      [...versions].map(async ([key, file]) => {
        try {
          return [key, await context.decodeAudioData(file.slice(0))];
        } catch (error) {
          throw new Error(`${key} cannot be decoded by this browser (${error.message})`);
        }
      }),
    );
    if (number !== this.loads) return false;
    this.buffers = new Map(decoded);
    if (!this.buffers.has(this.current)) this.current = decoded.length ? decoded[0][0] : null;
    this.onchange();
    return true;
  }

  /* Play a version, from `offset` in seconds or from where the clip stands. */
  play(key = this.current, offset = null) {
    this.check(key);
    this.wake();
    if (this.playing && offset === null) return this.switchTo(key);
    const from = offset ?? this.position;
    this.halt();
    this.current = key;
    this.start(from);
    this.onchange();
  }

  /* Stop, and stay where the clip is. */
  pause() {
    this.halt();
    this.onchange();
  }

  /* Hear another version from here on; while paused, the one that plays next. */
  switchTo(key) {
    this.check(key);
    this.current = key;
    const now = this.getContext().currentTime;
    // An exponential approach begins at whatever value a gain has, also amid another; the sum of the two gains stays 1,
    // and after 10 ms 98 % is done.
    for (const [other, { gain }] of this.voices) gain.gain.setTargetAtTime(other === key ? 1 : 0, now, 0.0025);
    this.onchange();
  }

  /* Move to a position in seconds, playing on or staying paused. */
  seek(seconds) {
    const wasPlaying = this.playing;
    this.halt();
    this.offset = Math.min(Math.max(0, seconds), this.duration);
    if (wasPlaying) this.start(this.offset);
    this.onchange();
  }

  check(key) {
    if (!this.buffers.has(key)) throw new Error(`no version ${key} is loaded`);
  }

  wake() {
    // Otherwise the mute switch of an iPhone silences the page.
    if (navigator.audioSession) navigator.audioSession.type = "playback";
    const context = this.getContext();
    if (context.state !== "running") context.resume();
  }

  start(from) {
    const context = this.getContext();
    const end = this.duration;
    this.offset = from < end ? from : 0;
    this.startedAt = context.currentTime + 0.02; // in the future, so that all make it
    this.bus = context.createGain();
    this.bus.gain.setValueAtTime(0, this.startedAt);
    this.bus.gain.linearRampToValueAtTime(1, this.startedAt + 0.003); // no click in the middle of a sound
    this.bus.connect(this.output);
    for (const [key, buffer] of this.buffers) {
      const gain = new GainNode(context, { gain: key === this.current ? 1 : 0 });
      const source = new AudioBufferSourceNode(context, { buffer, loop: this.looping, loopEnd: end });
      source.connect(gain).connect(this.bus);
      source.start(this.startedAt, this.offset);
      this.voices.set(key, { source, gain });
    }
    const voices = this.voices;
    voices.get(this.current).source.onended = () => {
      if (this.voices !== voices) return; // it was stopped, and did not end
      this.halt();
      this.offset = 0;
      this.onchange();
      this.onended();
    };
    this.playing = true;
  }

  halt() {
    this.offset = this.position;
    this.playing = false;
    if (!this.bus) return;
    const now = this.getContext().currentTime;
    this.bus.gain.setTargetAtTime(0, now, 0.0025);
    for (const { source } of this.voices.values()) source.stop(now + 0.03);
    this.bus = null;
    this.voices = new Map();
  }
}
