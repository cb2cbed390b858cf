"use strict";

const FADE_S = 0.005;
const LEAD_S = 0.02; // the audio clock is ahead of the page

const RISE = Float32Array.from({ length: 65 }, (_, i) => (1 - Math.cos((Math.PI * i) / 64)) / 2); // raised cosine
const FALL = RISE.slice().reverse();

/* Plays one clip in several versions, which run in lockstep. All start at the same sample of the audio clock, each with
   its own gain; switching changes only the gains, so the position is exact. A switch follows ITU-R BS.1534-3 §5.3: 5 ms
   fade out, then 5 ms fade in, without overlap. A clip begins and ends with such a fade. */
class ClipPlayer {
  constructor() {
    this.onchange = () => {}; // called after every change, with an Error if a clip does not play
    this.clip = null; // the argument of `listen`; its buffers are loaded or loading
    this.wanted = null; // while they are loading: what plays next
    this.current = null; // key of the audible version
    this.playing = false;
    this.buffers = new Map();
    this.voices = new Map(); // key -> {source, gain}, of the current start
    this.offset = 0; // position at the time `startedAt` of the audio clock, or while paused
    this.startedAt = 0;
    this.looping = false;
  }

  /* First used in a click or a key press, because browsers allow audio to start only there. */
  get context() {
    return (this.audio ??= new AudioContext());
  }

  /* Duration of the shortest version in seconds; 0 if nothing is loaded. */
  get duration() {
    return this.buffers.size ? Math.min(...[...this.buffers.values()].map((buffer) => buffer.duration)) : 0;
  }

  /* Seconds from the beginning of the clip. */
  get position() {
    if (!this.playing) return this.offset;
    const position = this.offset + Math.max(0, this.context.currentTime - this.startedAt);
    return this.looping ? position % this.duration : Math.min(position, this.duration);
  }

  /* Switch repeating on or off. */
  repeat(value) {
    // From here on, the position follows the new rule.
    const now = this.playing ? this.context.currentTime : 0;
    if (now > this.startedAt) [this.offset, this.startedAt] = [this.position, now];
    this.looping = value;
    for (const { source } of this.voices.values()) source.loop = this.looping;
    this.onchange();
  }

  /* Play a version of a clip, from `offset` in seconds or from the current position. A clip that is not loaded replaces
     the one before: `files()` returns a Map from keys to ArrayBuffers. If there are several calls before it is loaded,
     the last one counts. */
  async listen(clip, files, key, offset = null) {
    this.wake();
    if (clip === this.clip && !this.wanted) return this.play(key, offset);
    this.wanted = { key, offset };
    if (clip === this.clip) return this.onchange();
    this.halt();
    [this.clip, this.buffers, this.offset] = [clip, new Map(), 0];
    this.onchange();
    try {
      const buffers = await this.decode(files());
      if (clip !== this.clip || !this.wanted) return;
      this.buffers = buffers;
      const { key, offset } = this.wanted;
      this.wanted = null;
      this.play(key, offset ?? 0);
    } catch (error) {
      if (clip === this.clip) this.unload(error);
    }
  }

  /* Play a version of the clip that is loaded. */
  play(key = this.current, offset = null) {
    this.wake();
    if (this.playing && offset === null) return this.switchTo(key);
    const from = offset ?? this.position;
    this.halt();
    this.current = key;
    this.start(from);
    this.onchange();
  }

  /* Stop at the current position. */
  pause() {
    this.halt();
    this.onchange();
  }

  /* Switch to another version; while paused, it plays next. */
  switchTo(key) {
    if (key !== this.current) {
      const begin = this.context.currentTime + LEAD_S;
      for (const [other, { gain }] of this.voices) {
        const level = gain.gain.value;
        gain.gain.cancelScheduledValues(0);
        if (other === key) gain.gain.setValueAtTime(0, begin).setValueCurveAtTime(RISE, begin + FADE_S, FADE_S);
        else if (level > 0) gain.gain.setValueCurveAtTime(FALL.map((value) => value * level), begin, FADE_S);
      }
    }
    this.current = key;
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

  /* Forget the clip. */
  unload(error = null) {
    this.halt();
    [this.clip, this.wanted, this.current, this.buffers, this.offset] = [null, null, null, new Map(), 0];
    this.onchange(error);
  }

  async decode(files) {
    const decoded = [...files].map(async ([key, file]) => {
      try {
        return [key, faded(await this.context.decodeAudioData(file))];
      } catch (error) {
        throw new Error(`This clip does not play: ${key} cannot be decoded by this browser (${error.message})`);
      }
    });
    return new Map(await Promise.all(decoded));
  }

  wake() {
    // Otherwise the mute switch of an iPhone silences the page.
    if (navigator.audioSession) navigator.audioSession.type = "playback";
    if (this.context.state !== "running") this.context.resume();
  }

  start(from) {
    const { context } = this;
    const end = this.duration;
    this.offset = from < end ? from : 0;
    this.startedAt = context.currentTime + LEAD_S; // in the future, so that all sources are ready
    this.bus = context.createGain();
    this.bus.gain.setValueAtTime(0, this.startedAt);
    this.bus.gain.linearRampToValueAtTime(1, this.startedAt + FADE_S); // no click in the middle of a sound
    this.bus.connect(context.destination);
    for (const [key, buffer] of this.buffers) {
      const gain = new GainNode(context, { gain: key === this.current ? 1 : 0 });
      const source = new AudioBufferSourceNode(context, { buffer, loop: this.looping, loopEnd: end });
      source.connect(gain).connect(this.bus);
      source.start(this.startedAt, this.offset);
      this.voices.set(key, { source, gain });
    }
    const voices = this.voices;
    voices.get(this.current).source.onended = () => {
      if (this.voices !== voices) return; // it was stopped before its end
      this.halt();
      this.offset = 0;
      this.onchange();
    };
    this.playing = true;
  }

  halt() {
    this.offset = this.position;
    this.playing = false;
    if (!this.bus) return;
    this.bus.gain.setTargetAtTime(0, this.context.currentTime, 0.0025);
    for (const { source } of this.voices.values()) source.stop(this.context.currentTime + 0.03);
    this.bus = null;
    this.voices = new Map();
  }
}

/* The buffer, with a fade at its beginning and at its end. */
function faded(buffer) {
  const length = Math.min(Math.round(FADE_S * buffer.sampleRate), buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let i = 0; i < length; i++) {
      const gain = (1 - Math.cos((Math.PI * i) / length)) / 2;
      for (const place of [i, samples.length - 1 - i]) samples[place] *= gain;
    }
  }
  return buffer;
}
