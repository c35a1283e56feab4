// A report: the data is in the page.

draw(JSON.parse(document.getElementById("data").textContent));
