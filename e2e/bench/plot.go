package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The picture's measures, in pixels: bars begin at barsX, and fullBar is as long as rsync's time.
const (
	barsX   = 330
	fullBar = 360
	barH    = 16
	lineH   = 30
	plotW   = 780
)

// plot draws for every goal about time how long godeploy took as a share of the other, with the
// target as a line: green is met, red is missed.
func plot(rows []row, kept results) []byte {
	var body strings.Builder
	y := 46
	for _, r := range rows {
		for _, g := range r.Goals {
			if g.Of != ofWall || g.Ratio == 0 {
				continue
			}
			bar(&body, y, r.What, judge(r, kept.Rows[r.ID], g))
			y += lineH
		}
	}
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#ffffff"/>
<text x="%d" y="20" fill="#57606a">godeploy's time; the grey line at 1.0 is the other's, the dark mark is the target</text>
<line x1="%d" y1="30" x2="%d" y2="%d" stroke="#8c959f" stroke-dasharray="3 3"/>
`, plotW, y+10, plotW, y+10, barsX, barsX+fullBar, barsX+fullBar, y)
	return []byte(head + body.String() + "</svg>\n")
}

// bar draws one line; what is longer than the picture is cut, its number says how long it is.
func bar(b *strings.Builder, y int, what string, v verdict) {
	colour, width := "#1a7f37", math.Min(v.Value, 1.1)*fullBar
	if !v.Met {
		colour = "#cf222e"
	}
	if v.Goal.Side != "" && strings.Contains(v.Goal.Side, ",") {
		what += ", " + strings.TrimSpace(v.Goal.Side[strings.Index(v.Goal.Side, ",")+1:])
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="#24292f">%s</text>`+"\n", barsX-8, y+2, html.EscapeString(what))
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" font-size="10" fill="#57606a">%s</text>`+"\n", barsX-8, y+13, html.EscapeString("against "+orNone(v.Best)))
	if v.Measured {
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`+"\n", barsX, y-7, width, barH, colour)
	}
	target := barsX + v.Goal.Ratio*fullBar
	fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#24292f" stroke-width="2"/>`+"\n", target, y-10, target, y+barH-4)
	fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="#24292f">%s %s</text>`+"\n", math.Max(barsX+width, target)+6, y+5, v.figure(), v.word())
}

func orNone(text string) string {
	if text == "" {
		return "nothing measured"
	}
	return text
}
