package filesync

import "testing"

// BenchmarkExcluded asks about one file by a list of rules as people write them.
func BenchmarkExcluded(b *testing.B) {
	rules, err := ParseRules([]string{"*.pyc", "__pycache__", ".venv", "/logs", "*.o", "deep/**/x", "a/b/*.txt"}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		rules.Excluded("src/some/module/file_name.go", false)
	}
}
