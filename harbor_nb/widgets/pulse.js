// Says when the picture was taken, and *stale* when the kernel that drew it is heard no more.
const SILENCE_MS = 8000;

export default {
  render({ model, el }) {
    el.classList.add("hnb-pulse");
    el.setAttribute("role", "status");
    const opened = Date.now();
    let heard = null;
    const draw = () => {
      const silent = Date.now() - (heard ?? opened) > SILENCE_MS;
      const stale = !model.get("final") && silent;
      el.dataset.stale = stale;
      el.textContent = `as of ${model.get("as_of")}` + (stale ? " · stale: run this cell again to follow the job" : "");
    };
    const beat = () => ((heard = Date.now()), draw());
    model.on("change:as_of", beat);
    model.on("change:final", draw);
    const clock = setInterval(draw, 1000);
    draw();
    return () => (clearInterval(clock), model.off("change:as_of", beat), model.off("change:final", draw));
  },
};
