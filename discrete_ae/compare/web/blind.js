"use strict";

/* The blind test, at #blind, or at #blind:2,3 with the second and third method only. It replaces the report, whose
   elements are then not in the document. The player knows the sounds of a trial by number; 0 is the reference. */
{
  const CODES = [..."1234567890"].map((digit) => `Digit${digit}`).concat("Minus", "Equal");
  const [report, title] = [[...document.body.childNodes], document.title];
  const blind = document.getElementById("blind");
  const bar = document.querySelector(".transport");
  const choice = document.getElementById("choice");
  const boxes = [...choice.querySelectorAll("input")]; // of the methods
  const { material } = blind.dataset;
  const find = (selector) => blind.querySelector(selector);
  const part = (name) => find(`[data-part=${name}]`);
  const [listener, comment, next, list, result] = ["listener", "comment", "next", "list", "result"].map(part);
  const [buttons, sliders] = ["button", "input"].map((tag) => () => [...list.querySelectorAll(tag)]);

  let trials = []; // {clip, conditions}: practice, then the rated trials
  let number = 0; // of the trial
  let place = ""; // storage key of the session
  let session = null; // grades, comments and times by trial; number of done trials; whether they are saved

  /* A hash of words (FNV-1a, mixed as in MurmurHash3), for an order that looks random. */
  const rank = (...words) => {
    let hash = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(words.join("\n"))) hash = Math.imul(hash ^ byte, 0x01000193);
    for (const [shift, factor] of [[16, 0x85ebca6b], [13, 0xc2b2ae35], [16, 1]])
      hash = Math.imul(hash ^ (hash >>> shift), factor);
    return hash >>> 0;
  };
  const shuffled = (items, rankOf) => [...items].sort((a, b) => rankOf(a) - rankOf(b));
  const chosen = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const conditions = () => {
    const methods = boxes.map((box) => box.value);
    const anchors = [...clips[0].sounds.keys()].filter((key) => key !== "original" && !methods.includes(key));
    return ["reference", ...anchors, ...chosen()];
  };
  const labelOf = (key) => (key === "reference" ? "hidden reference" : clips[0].sounds.get(key).dataset.label);

  const screen = (name) => {
    for (const each of blind.querySelectorAll("[data-screen]")) each.hidden = each.dataset.screen !== name;
    scrollTo({ top: 0, behavior: "instant" });
    find(`[data-screen=${name}] h2`)?.focus();
  };

  /* Resume the session of a listener, or begin one. */
  const open = () => {
    const code = listener.value.trim().replace(/\s+/g, " ");
    const draw = (clip, words) => shuffled(conditions(), (key) => rank(material, code, clip.name, ...words, key));
    const drawn = shuffled(clips, (clip) => rank(material, code, clip.name));
    trials = [drawn.at(-1), ...drawn].map((clip, i) => ({ clip, conditions: draw(clip, i ? [] : ["practice"]) }));
    place = ["discrete-ae-ratings", material, chosen(), code].join(" ");
    session = { code, done: 0, saved: false, grades: trials.map(() => []), comments: trials.map(() => ""), times: [] };
    try {
      Object.assign(session, JSON.parse(localStorage.getItem(place)));
    } catch {} // `keep` shows a warning
    session.grades[0] = [];
    keep();
  };

  const keep = () => {
    try {
      localStorage.setItem(place, JSON.stringify(session));
    } catch {
      find("[role=alert]").hidden = false;
    }
  };

  const enter = (trial) => {
    player.unload();
    number = trial;
    if (number === trials.length) return finish();
    for (const old of list.querySelectorAll(".row")) old.remove();
    trials[number].conditions.forEach((_, i) => {
      list.append(list.querySelector("template").content.cloneNode(true));
      buttons().at(-1).lastElementChild.textContent = i + 1;
      buttons().at(-1).setAttribute("aria-label", `Version ${i + 1}`);
      sliders().at(-1).setAttribute("aria-label", `Rating of version ${i + 1}`);
    });
    player.repeat(true);
    comment.value = session.comments[number];
    find("h2").textContent = view.names()[0];
    Object.assign(find("progress"), { max: trials.length - 1, value: session.done });
    screen("trial");
    update();
  };

  /* Show the ratings. */
  const update = () => {
    const missing = [];
    sliders().forEach((slider, i) => {
      const grade = session.grades[number][i];
      const isRated = Number.isInteger(grade);
      if (isRated) slider.value = grade;
      else missing.push(i + 1);
      slider.classList.toggle("rated", isRated);
      slider.setAttribute("aria-valuetext", isRated ? grade : "not rated");
      slider.parentElement.nextElementSibling.textContent = isRated ? grade : "–";
    });
    next.disabled = number > 0 && missing.length > 0;
    next.textContent = number ? "Next recording" : "End practice";
    part("missing").textContent = missing.length ? `still to be rated: ${missing.join(", ")}` : "";
    find("[data-save]").disabled = !session.done;
  };

  const rate = (slider) => {
    session.grades[number][sliders().indexOf(slider)] = Number(slider.value);
    keep();
    update();
  };

  const listen = (i) => {
    const { clip, conditions } = trials[number];
    if (i > conditions.length) return;
    const keys = ["original", ...conditions.map((key) => (key === "reference" ? "original" : key))];
    player.listen(trials[number], () => new Map(keys.map((key, j) => [j, bytes(clip.sounds.get(key))])), i);
    (sliders()[i - 1] ?? buttons()[0]).focus();
  };

  const finish = () => {
    screen("end");
    result.hidden = !session.saved;
    if (!session.saved) return;
    const table = result.querySelector("table");
    table.replaceChildren();
    for (const key of ["", ...conditions()]) {
      const row = table.insertRow();
      row.insertCell().textContent = key && labelOf(key);
      trials.slice(1).forEach((trial, i) => {
        const grade = session.grades[i + 1][trial.conditions.indexOf(key)];
        row.insertCell().textContent = key ? grade : trial.clip.name;
      });
    }
  };

  const save = () => {
    const lines = ["listener,time,report,material,trials,trial,clip,position,condition,label,rating,comment".split(",")];
    for (let n = 1; n <= session.done; n++) {
      const about = [session.code, session.times[n], title, material, trials.length - 1, n, trials[n].clip.name];
      const add = (key, i) => lines.push([...about, i + 1, key, labelOf(key), session.grades[n][i], session.comments[n]]);
      trials[n].conditions.forEach(add);
    }
    const text = lines.map((line) => line.map((value) => `"${String(value).replaceAll('"', '""')}"`).join(",") + "\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(text, { type: "text/csv" }));
    link.download = `ratings-${session.code.replace(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
    link.click();
    session.saved = session.done === trials.length - 1;
    keep();
    if (session.saved) finish();
  };

  const view = {
    names: (key) => [
      number ? `Recording ${number} of ${trials.length - 1}` : "Practice, not saved",
      key ? `Version ${key}` : "Reference",
    ],

    show(key) {
      buttons().forEach((button, i) => {
        button.classList.toggle("current", i === key);
        button.setAttribute("aria-pressed", i === key && (player.playing || player.wanted !== null));
      });
      // Only the version that plays can be rated: BS.1534-3 §5.4 and attachment 2.
      sliders().forEach((slider, i) => (slider.disabled = i + 1 !== key));
    },

    hears({ target, code, key }) {
      if (find("[data-screen=trial]").hidden || target === comment) return false;
      const i = CODES.indexOf(code.replace("Numpad", "Digit"));
      if (i >= 0) listen(i + 1);
      else if (key === "r" || key === "R") listen(0);
      else if (key === "n" || key === "N") next.click();
      return true;
    },
  };

  /* Show the test or the report, depending on the address. */
  const arrive = () => {
    const asked = /^#blind(?::([\d,]*))?$/.exec(location.hash);
    document.documentElement.classList.toggle("blind", asked !== null);
    if (!asked && transport.view !== view) return;
    player.unload();
    transport.view = asked ? view : transport.report;
    document.title = asked ? "Blind listening" : title;
    document.body.replaceChildren(...(asked ? [blind, bar] : report));
    blind.hidden = !asked;
    if (!asked) return document.getElementById(location.hash.slice(1))?.scrollIntoView();
    const numbers = asked[1]?.split(",");
    boxes.forEach((box, i) => (box.checked = numbers ? numbers.includes(`${i + 1}`) : box.checked));
    part("extent").textContent =
      `Recordings: ${clips.length}. You hear each in ${conditions().length} versions, whose numbers change from recording ` +
      "to recording, and rate them against the reference.";
    screen("start");
  };

  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    open();
    enter(event.submitter.value === "practice" ? 0 : session.done + 1);
  });
  list.addEventListener("input", ({ target }) => rate(target));
  list.addEventListener("keydown", ({ target, key }) => key === "Enter" && target.type === "range" && rate(target));
  list.addEventListener("click", ({ target }) => {
    const i = buttons().indexOf(target.closest("button"));
    if (i >= 0 && player.playing && player.current === i) player.pause();
    else if (i >= 0) listen(i);
    else if (target.type === "range") rate(target);
    else if (target.matches(".track")) listen(sliders().indexOf(target.firstElementChild) + 1); // it was not played yet
  });
  comment.addEventListener("input", () => {
    session.comments[number] = comment.value;
    keep();
  });
  next.addEventListener("click", () => {
    player.unload();
    if (!number) return screen("start");
    session.times[number] = new Date().toISOString();
    session.done = number;
    keep();
    enter(number + 1);
  });
  for (const button of blind.querySelectorAll("[data-save]")) button.addEventListener("click", save);

  choice.addEventListener("change", ({ target }) => {
    if (chosen().length > choice.dataset.most) target.checked = false;
    choice.querySelector("a").href = `#blind:${boxes.flatMap((box, i) => (box.checked ? [i + 1] : []))}`;
  });

  addEventListener("hashchange", arrive);
  arrive();
}
