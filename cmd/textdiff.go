package cmd

import (
	"fmt"
	"strings"
)

const (
	diffContext = 3
	diffLimit   = 2000 // lines of either text; longer ones are shown whole
)

// edit is one line of a difference: ' ' in both, '-' in the old text, '+' in the new one.
type edit struct {
	op   byte
	text string
	old  int // number of the line in either text
	new  int
}

// textDiff gives the difference of two texts as diff -u prints it, without the two lines of names; nil
// when they are equal.
func textDiff(before, after string) []string {
	if before == after {
		return nil
	}
	edits := editsOf(splitLines(before), splitLines(after))
	var out []string
	shown := -1 // the last edit that is in out
	for i, e := range edits {
		if e.op == ' ' {
			continue
		}
		from := max(i-diffContext, shown+1)
		if from > shown+1 || shown < 0 {
			out = append(out, fmt.Sprintf("@@ -%d +%d @@", edits[from].old, edits[from].new))
		}
		to := i + 1
		for to < len(edits) && to <= i+diffContext && edits[to].op == ' ' {
			to++
		}
		for _, one := range edits[from:to] {
			out = append(out, string(one.op)+one.text)
		}
		shown = to - 1
	}
	return out
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// editsOf makes the new lines of the old ones by the longest sequence that both have.
func editsOf(before, after []string) []edit {
	if len(before) > diffLimit || len(after) > diffLimit {
		before, after = before[:min(len(before), diffLimit)], after[:min(len(after), diffLimit)]
	}
	// common[i][j] is the length of that sequence for before[i:] and after[j:].
	common := make([][]int16, len(before)+1)
	for i := range common {
		common[i] = make([]int16, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var edits []edit
	for i, j := 0, 0; i < len(before) || j < len(after); {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			edits = append(edits, edit{' ', before[i], i + 1, j + 1})
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			edits = append(edits, edit{'-', before[i], i + 1, j + 1})
			i++
		default:
			edits = append(edits, edit{'+', after[j], i + 1, j + 1})
			j++
		}
	}
	return edits
}
