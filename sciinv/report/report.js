"use strict";
(() => {
  const box = document.getElementById("flip");
  if (!box) return;
  const frames = [...box.querySelectorAll("img")];
  const buttons = [...document.querySelectorAll("#keys button")];
  const label = document.getElementById("flip-name");
  const bright = document.getElementById("bright");
  const contrast = document.getElementById("contrast");
  let current = 0;
  let timer = null;
  const display = (index) => {
    current = index;
    frames.forEach((frame, i) => { frame.style.visibility = i === index ? "visible" : "hidden"; });
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    label.textContent = frames[index].alt;
  };
  const stop = () => { clearInterval(timer); timer = null; };
  const samples = frames.map((f, i) => i).filter((i) => /^[1-9]$/.test(frames[i].dataset.key));
  const play = () => {
    if (timer) { stop(); return; }
    timer = setInterval(() => {
      const at = samples.indexOf(current);
      display(samples[(at + 1) % samples.length]);
    }, 300);
  };
  const adjust = () => {
    box.style.filter = `brightness(${bright.value}%) contrast(${contrast.value}%)`;
  };
  buttons.forEach((button, i) => button.addEventListener("click", () => { stop(); display(i); }));
  document.getElementById("play").addEventListener("click", play);
  bright.addEventListener("input", adjust);
  contrast.addEventListener("input", adjust);
  document.getElementById("reset").addEventListener("click", () => {
    bright.value = 100; contrast.value = 100; adjust();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const index = frames.findIndex((frame) => frame.dataset.key === event.key.toLowerCase());
    if (index >= 0) { stop(); display(index); }
    if (event.key === "p") play();
  });
  document.documentElement.classList.add("js");
  display(0);
})();
