// SPDX-License-Identifier: MIT OR Apache-2.0
"use strict";
// What the page says, it says without this. Here are two comforts: a click on a hint shows that hint alone,
// and a field above the TLPs shows those whose row has some text.
(() => {
	const legend = document.querySelector(".legend");
	const rows = [...document.querySelectorAll(".tlps tbody tr")];
	const drawn = [...document.querySelectorAll(".bar, .line, .head")];
	let colour = null, text = "";
	const show = () => {
		for (const row of rows) {
			const wanted = (!colour || row.classList.contains(colour)) && row.textContent.toLowerCase().includes(text);
			row.classList.toggle("dim", !wanted);
		}
		for (const one of drawn)
			one.classList.toggle("dim", colour !== null && !one.classList.contains(colour));
		for (const item of legend.children)
			item.classList.toggle("on", item.dataset.colour === colour);
	};
	legend.classList.add("live");
	legend.addEventListener("click", event => {
		const item = event.target.closest("li");
		if (!item) return;
		colour = colour === item.dataset.colour ? null : item.dataset.colour;
		show();
	});
	const find = document.createElement("input");
	find.type = "search";
	find.className = "find";
	find.placeholder = "Show the TLPs with this text";
	find.addEventListener("input", () => {
		text = find.value.toLowerCase();
		show();
	});
	const table = document.querySelector(".tlps");
	if (table) table.parentElement.before(find);
	document.documentElement.dataset.script = "ran";
})();
