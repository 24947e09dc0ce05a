// A field for a secret. Its value is never part of the widget's state: it goes to the kernel in one message and the field is emptied.
const ACTIONS = [
  ["use", "Use in this session", "Set it in this kernel only; jobs launched from here get it"],
  ["save", "Save to .env", "Write it to the .env file, readable by you alone, and load it"],
];

export default {
  render({ model, el }) {
    el.classList.add("hnb-secret");
    const field = (tag, type, label, hint) => {
      const wrap = document.createElement("label");
      wrap.textContent = label;
      const input = document.createElement(tag);
      Object.assign(input, { type, placeholder: hint, autocomplete: "off", spellcheck: false });
      input.setAttribute("aria-label", label);
      input.addEventListener("keydown", (event) => event.stopPropagation());
      wrap.append(input);
      return [wrap, input];
    };
    const [nameWrap, name] = field("input", "text", "Name", "DAYTONA_API_KEY");
    const [valueWrap, value] = field("input", "password", "Value", "paste the key here");
    value.autocomplete = "new-password";
    const names = document.createElement("datalist");
    names.id = `hnb-names-${Math.random().toString(36).slice(2)}`;
    name.setAttribute("list", names.id);
    const list = () =>
      names.replaceChildren(...model.get("names").map((text) => Object.assign(document.createElement("option"), { value: text })));
    const take = () => (name.value = model.get("name"));
    const actions = ACTIONS.map(([action, text, title]) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text, title });
      button.className = "jupyter-button widget-button hnb-button";
      button.onclick = () => {
        model.send({ action, name: name.value.trim(), value: value.value });
        value.value = "";
      };
      return button;
    });
    value.addEventListener("keydown", (event) => event.key === "Enter" && actions[0].click());
    model.on("change:names", list);
    model.on("change:name", take);
    list();
    take();
    el.append(nameWrap, names, valueWrap, ...actions);
    return () => (model.off("change:names", list), model.off("change:name", take));
  },
};
