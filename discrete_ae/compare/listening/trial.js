"use strict";

const FADE_S = 0.005;
const LEAD_S = 0.02; // the audio clock runs ahead of what this page can tell it

/* 0 to 1 by a raised cosine. */
const RISE = Float32Array.from({ length: 65 }, (_, i) => (1 - Math.cos((Math.PI * i) / 64)) / 2);
const FALL = RISE.slice().reverse();

/* Switches as ITU-R BS.1534-3 §5.3 wants it: 5 ms out, then 5 ms in, never one across the other; and what is repeated
   begins and ends in such a fade. */
class BlindPlayer extends ClipPlayer {
  async load(versions) {
    if (!(await super.load(versions))) return false;
    for (const buffer of this.buffers.values()) {
      const length = Math.min(Math.round(FADE_S * buffer.sampleRate), buffer.length);
      for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
        const samples = buffer.getChannelData(channel);
        for (let i = 0; i < length; i++) {
          const gain = (1 - Math.cos((Math.PI * i) / length)) / 2;
          samples[i] *= gain;
          samples[samples.length - 1 - i] *= gain;
        }
      }
    }
    return true;
  }

  switchTo(key) {
    this.check(key);
    if (key !== this.current) {
      const begin = this.getContext().currentTime + LEAD_S;
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
}

/* The rows of versions and the transport. It knows numbers; what they are nobody tells it. */
class TrialView {
  constructor(player) {
    this.player = player;
    this.sliders = [];
    this.buttons = [];
    this.onrated = () => {};
    this.part = (id) => document.getElementById(id);
    this.part("toggle").addEventListener("click", () => this.toggle());
    this.part("reference").addEventListener("click", () => this.press(0));
    this.part("loop").addEventListener("click", () => this.toggleLoop());
    this.part("position").addEventListener("input", (event) => player.seek(event.target.value * player.duration));
    player.onchange = () => this.show();
  }

  /* Take a trial: keys of sounds, the reference first, all in the player. */
  begin(keys) {
    this.keys = keys;
    for (const row of this.part("conditions").querySelectorAll(".row")) row.remove();
    this.sliders = [];
    this.buttons = [this.part("reference")];
    keys.slice(1).forEach((_, i) => this.addRow(i + 1));
    this.part("more").hidden = keys.length <= 11;
    this.player.loop = true;
    this.show();
    this.onrated();
  }

  addRow(number) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "version row";
    button.append(Object.assign(document.createElement("span"), { className: "icon", ariaHidden: "true" }), `${number}`);
    button.setAttribute("aria-label", `Version ${number}`);
    button.addEventListener("click", () => this.press(number));
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: 100, step: 1, value: 50, disabled: true });
    slider.setAttribute("aria-label", `Rating of version ${number}`);
    const grade = Object.assign(document.createElement("span"), { className: "grade row", ariaHidden: "true" });
    const track = Object.assign(document.createElement("div"), { className: "track row" });
    track.append(slider);
    const rate = () => {
      slider.classList.add("rated");
      this.mark(slider, grade);
      this.onrated();
    };
    slider.addEventListener("input", rate);
    slider.addEventListener("click", (event) => {
      event.stopPropagation();
      rate();
    });
    slider.addEventListener("keydown", (event) => event.key === "Enter" && rate());
    // Of a slider that is not to be moved now the press comes through to here.
    track.addEventListener("click", () => this.player.current !== this.keys[number] && this.listen(number));
    this.mark(slider, grade);
    this.part("conditions").append(button, track, grade);
    this.sliders.push(slider);
    this.buttons.push(button);
  }

  mark(slider, grade) {
    const isRated = slider.classList.contains("rated");
    grade.textContent = isRated ? slider.value : "–";
    slider.setAttribute("aria-valuetext", isRated ? slider.value : "not rated");
  }

  /* Ratings from the first version on; null where there is none yet. */
  get ratings() {
    return this.sliders.map((slider) => (slider.classList.contains("rated") ? Number(slider.value) : null));
  }

  /* Numbers of the versions without a rating. */
  get missing() {
    return this.ratings.flatMap((rating, i) => (rating === null ? [i + 1] : []));
  }

  /* The button of a version, 0 the reference: plays it, or pauses if it plays. */
  press(number) {
    if (this.player.playing && this.player.current === this.keys[number]) this.player.pause();
    else this.listen(number);
  }

  listen(number) {
    if (!this.player.buffers.has(this.keys[number])) return; // no such version, or the next clip is being loaded
    this.player.play(this.keys[number]);
    this.part("status").textContent = number ? `Version ${number}` : "Reference";
    (number ? this.sliders[number - 1] : this.buttons[0]).focus({ preventScroll: true });
  }

  toggle() {
    if (this.player.playing) this.player.pause();
    else this.listen(this.keys.indexOf(this.player.current));
  }

  toggleLoop() {
    this.player.loop = !this.player.loop;
  }

  show() {
    const { player } = this;
    const current = this.keys?.indexOf(player.current);
    this.buttons.forEach((button, i) => {
      button.classList.toggle("current", i === current);
      button.setAttribute("aria-pressed", player.playing && i === current);
    });
    // Only what is heard can be rated: BS.1534-3 §5.4 and attachment 2.
    this.sliders.forEach((slider, i) => {
      slider.disabled = i + 1 !== current;
    });
    this.part("toggle").textContent = player.playing ? "Pause" : "Play";
    this.part("loop").setAttribute("aria-pressed", player.loop);
    this.showPosition();
    if (player.playing && !this.frame) this.frame = requestAnimationFrame(() => this.follow());
  }

  follow() {
    this.frame = 0;
    this.showPosition();
    if (this.player.playing) this.frame = requestAnimationFrame(() => this.follow());
  }

  showPosition() {
    const { position, duration } = this.player;
    this.part("position").value = duration ? position / duration : 0;
    this.part("position").setAttribute("aria-valuetext", `${position.toFixed(0)} of ${duration.toFixed(0)} seconds`);
    this.part("time").textContent = `${position.toFixed(1)} / ${duration.toFixed(1)} s`;
  }
}
