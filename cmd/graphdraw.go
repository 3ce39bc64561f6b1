package cmd

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// edges gives who sends to whom, and the jumps: pairs of names.
func (g graph) edges() (requests, jumps [][2]string) {
	for _, f := range g.Front {
		requests = append(requests, [2]string{"", f.Name})
		for _, s := range g.Servers {
			requests = append(requests, [2]string{f.Name, s.Name})
		}
	}
	for _, j := range g.Jumps {
		for _, chain := range j.Through {
			jumps = append(jumps, [2]string{chain[len(chain)-1], j.To})
		}
	}
	return requests, jumps
}

// nodes gives every host once, in the order in which they are drawn.
func (g graph) nodes() []graphHost {
	seen := map[string]bool{}
	var all []graphHost
	for _, list := range [][]graphHost{g.Front, g.Servers, g.Others} {
		for _, h := range list {
			if !seen[h.Name] {
				all = append(all, h)
			}
			seen[h.Name] = true
		}
	}
	return all
}

func (g graph) title() string { return orElse(strings.Join(g.Names, " "), "every name") }

// mermaid numbers the hosts: a host's name may be a word of the language.
func (g graph) mermaid() string {
	ids := map[string]string{"": "names"}
	var b strings.Builder
	fmt.Fprintf(&b, "flowchart TD\n  names([%q])\n", g.title())
	for i, h := range g.nodes() {
		ids[h.Name] = "h" + strconv.Itoa(i)
		fmt.Fprintf(&b, "  %s[\"%s<br/>%s\"]\n", ids[h.Name], h.Name, h.line())
	}
	requests, jumps := g.edges()
	for _, e := range requests {
		fmt.Fprintf(&b, "  %s --> %s\n", ids[e[0]], ids[e[1]])
	}
	for _, e := range jumps {
		fmt.Fprintf(&b, "  %s -. ssh .-> %s\n", ids[e[0]], ids[e[1]])
	}
	return b.String()
}

// dot writes Graphviz's language; its quoted words know no escape but that of the quote.
func (g graph) dot() string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph fleet {\n  node [shape=box];\n  \"\" [label=%q, shape=ellipse];\n", g.title())
	for _, h := range g.nodes() {
		fmt.Fprintf(&b, "  %q [label=\"%s\\n%s\"];\n", h.Name, h.Name, h.line())
	}
	requests, jumps := g.edges()
	for _, e := range requests {
		fmt.Fprintf(&b, "  %q -> %q;\n", e[0], e[1])
	}
	for _, e := range jumps {
		fmt.Fprintf(&b, "  %q -> %q [style=dashed, label=ssh];\n", e[0], e[1])
	}
	return b.String() + "}\n"
}

// The measures of the picture, in pixels.
const (
	boxWide, boxHigh = 190, 46
	gapWide, gapHigh = 26, 74
	margin           = 24
)

// svg draws names, nginx hosts, servers and the others in rows from the top down; requests are solid
// lines, jumps dashed ones beside them.
func (g graph) svg(title string) string {
	rows := [][]graphHost{{{Name: g.title()}}, g.Front, g.Servers, g.Others}
	wide := 1
	for _, row := range rows {
		wide = max(wide, len(row))
	}
	width := 2*margin + wide*boxWide + (wide-1)*gapWide
	at := map[string][2]int{}
	var boxes strings.Builder
	y := margin
	for n, row := range rows {
		if len(row) == 0 {
			continue
		}
		x := (width - len(row)*boxWide - (len(row)-1)*gapWide) / 2
		for _, h := range row {
			name := h.Name
			if n == 0 {
				name = ""
			}
			if _, drawn := at[name]; !drawn {
				at[name] = [2]int{x + boxWide/2, y}
			}
			boxes.WriteString(box(x, y, h))
			x += boxWide + gapWide
		}
		y += boxHigh + gapHigh
	}
	legend := ""
	if len(g.Jumps) > 0 {
		legend = legendAt(margin, y-gapHigh+margin)
		y += legendHigh
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\">\n<title>%s</title>\n%s%s%s</svg>\n",
		width, y-gapHigh+margin, escapeXML(title), g.lines(at), boxes.String(), legend)
}

// lines draws the edges, from the foot of one box to the head of the other.
func (g graph) lines(at map[string][2]int) string {
	var b strings.Builder
	draw := func(edges [][2]string, beside int, style string) {
		for _, e := range edges {
			from, to := at[e[0]], at[e[1]]
			fmt.Fprintf(&b, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" %s/>\n", from[0]+beside, from[1]+boxHigh, to[0]+beside, to[1], style)
		}
	}
	requests, jumps := g.edges()
	draw(requests, 0, requestStyle)
	draw(jumps, 12, jumpStyle) // often from the same host to the same server
	return b.String()
}

const (
	requestStyle = `stroke="#555"`
	jumpStyle    = `stroke="#2a7" stroke-width="1.5" stroke-dasharray="4 4"`
	legendHigh   = 22
)

// legendAt says what the two kinds of lines are.
func legendAt(x, y int) string {
	line := func(x int, style, text string) string {
		return fmt.Sprintf("<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" %s/>\n<text x=\"%d\" y=\"%d\" font-size=\"10\">%s</text>\n",
			x, y, x+24, y, style, x+30, y+4, text)
	}
	return line(x, requestStyle, "requests") + line(x+90, jumpStyle, "ssh, reached through")
}

func box(x, y int, h graphHost) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"5\" fill=\"#fff\" stroke=\"#333\"/>\n", x, y, boxWide, boxHigh)
	line := strings.ReplaceAll(strings.TrimSpace(h.line()), "  ", " · ")
	middle := y + 19
	if line == "" {
		middle = y + boxHigh/2 + 4
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-weight=\"bold\">%s</text>\n", x+boxWide/2, middle, escapeXML(cut(h.Name, 24)))
	if line != "" {
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"10\">%s</text>\n", x+boxWide/2, y+36, escapeXML(cut(line, 40)))
	}
	return b.String()
}

// cut keeps a text within its box.
func cut(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

func escapeXML(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
