
(function () {
	"use strict";
	function add(after, tag, set) {
		var e = document.createElement(tag);
		for (var k in set) e[k] = set[k];
		after.insertAdjacentElement("afterend", e);
		return e;
	}
	document.querySelectorAll("input[data-show]").forEach(function (input) {
		var box = document.createElement("div");
		box.className = "reveal";
		var focused = document.activeElement === input;
		input.replaceWith(box);
		box.append(input);
		if (focused || input.autofocus) input.focus();
		var button = add(input, "button", {type: "button", className: "side", textContent: input.dataset.show});
		button.setAttribute("aria-controls", input.id);
		button.setAttribute("aria-label", input.dataset.show + ": " + input.labels[0].textContent);
		button.onclick = function () {
			var hidden = input.type === "password";
			input.type = hidden ? "text" : "password";
			button.textContent = hidden ? input.dataset.hide : input.dataset.show;
			button.setAttribute("aria-label", button.textContent + ": " + input.labels[0].textContent);
		};
		input.form.addEventListener("submit", function () { input.type = "password"; });
		if (!input.dataset.strength) return;
		var words = input.dataset.strength.split("|");
		var out = add(box, "p", {className: "small strength"});
		out.setAttribute("role", "status");
		input.addEventListener("input", function () {
			var v = input.value, kinds = 0, different = new Set(v).size;
			[/[a-z]/, /[A-Z]/, /[0-9]/, /[^a-zA-Z0-9]/].forEach(function (k) { if (k.test(v)) kinds++; });
			var bits = Math.min(v.length, different * 1.6) * (1.8 + kinds * 0.8);
			if (/^(.{1,4})\1+$/.test(v) || /password|passwor|qwert|12345|letmein|matrix/i.test(v)) bits = Math.min(bits, 20);
			var level = bits < 32 ? 0 : bits < 48 ? 1 : 2;
			out.textContent = v ? words[level] : "";
			out.dataset.level = level;
		});
	});
	document.querySelectorAll("input[data-check]").forEach(function (input) {
		if (input.readOnly) return;
		var out = add(input, "p", {className: "small check-result"}), timer, asked = 0;
		out.setAttribute("role", "status");
		input.addEventListener("input", function () {
			clearTimeout(timer);
			var mine = ++asked, value = input.value.trim();
			out.textContent = "";
			delete out.dataset.level;
			if (!value) return;
			timer = setTimeout(function () {
				fetch(input.dataset.check + encodeURIComponent(value)).then(function (answer) {
					return answer.json().then(function (body) {
						if (mine !== asked || !answer.ok) return;
						out.textContent = body.text;
						out.dataset.level = body.good ? 2 : 0;
					});
				}).catch(function () {});
			}, 400);
		});
	});
	document.querySelectorAll("button[data-copy]").forEach(function (button) {
		if (!navigator.clipboard) return;
		button.hidden = false;
		button.onclick = function () {
			navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent).then(function () {
				button.textContent = button.dataset.copied;
				button.setAttribute("aria-live", "polite");
			});
		};
	});
})();
