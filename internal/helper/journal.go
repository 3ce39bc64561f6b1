package helper

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

const journalFile = stateDir + "/journal"

// Journal reads what the host wrote down of the last run that moved current, nil when there is none.
// One that makes no sense is errRecord: what is on disk tells as much.
func (s *Site) Journal() (*wire.Journal, error) {
	b, err := s.read(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		if info, lerr := s.FS.Lstat(journalFile); lerr == nil && info.Kind != filesync.File {
			return nil, fmt.Errorf("%s: %w", journalFile, errRecord)
		}
		return nil, err
	}
	var j wire.Journal
	if json.Unmarshal(b, &j) != nil || j.Check() != nil {
		return nil, fmt.Errorf("%s: %w", journalFile, errRecord)
	}
	return &j, nil
}

// told is the journal for those who only look.
func (s *Site) told() (*wire.Journal, error) {
	j, err := s.Journal()
	if errors.Is(err, errRecord) {
		return nil, nil
	}
	return j, err
}

// shown is the journal as State tells it: of an entry that is closed not how it would have been undone.
func (s *Site) shown() (*wire.Journal, error) {
	j, err := s.told()
	if j != nil && !j.Open() {
		j.Aftermath = nil
	}
	return j, err
}

// Arm opens the journal's entry: from here on whoever finds it knows what to finish or undo. It is durable
// when Arm returns.
func (s *Site) Arm(req wire.ArmRequest, boot string, now time.Time) error {
	current, _, err := s.current()
	if err != nil {
		return explain(err, "read current")
	}
	j := wire.Journal{
		Holder: req.Holder, BootID: boot, Step: wire.StepSwitching, From: current, To: req.To, Back: req.Back,
		Since: now, Aftermath: req.Aftermath,
	}
	if to, err := s.record(req.To); err == nil {
		j.Mark = to.Mark
	}
	if _, err := filesync.MkdirAll(s.FS, stateDir, 0o755); err != nil {
		return explain(err, "make %s", stateDir)
	}
	if err := s.note(j); err != nil {
		s.disarm(req.Holder.Run)
		return explain(err, "write the journal")
	}
	return nil
}

// disarm closes an entry that could not be made durable but is there: nothing moves on its account.
func (s *Site) disarm(run string) {
	if j, err := s.told(); err == nil && j.Open() && j.Step == wire.StepSwitching && j.Holder.Run == run {
		_ = s.closed(*j, "") // whoever finds it open sees that nothing has moved
	}
}

// Reach notes a step in the entry that is open. A closed one is opened again when the run that closed it
// undoes it after all. Without an entry there is nothing to note: a host that is not armed has nothing to
// finish.
func (s *Site) Reach(step wire.Step, run string) error {
	j, err := s.told()
	if err != nil || j == nil || !j.Open() && (step != wire.StepUndoing || j.Holder.Run != run) {
		return explain(err, "read the journal")
	}
	switch {
	case step == wire.StepDone:
		return s.closed(*j, "")
	case step == wire.StepUndoing && j.Open():
		// An open entry leads to the same undo, and that must not wait for room on a full disk.
		_ = s.noteStep(j, step)
		return nil
	}
	return explain(s.noteStep(j, step), "write the journal")
}

// settle closes the entry of a release that was found healthy: that word is the last of its switch.
func (s *Site) settle(id string) error {
	j, err := s.told()
	if err != nil || !j.Open() || j.To != id {
		return explain(err, "read the journal")
	}
	return s.closed(*j, "")
}

func (s *Site) noteStep(j *wire.Journal, step wire.Step) error {
	next := *j
	next.Step = step
	return s.note(next)
}

// note puts an entry in place.
func (s *Site) note(j wire.Journal) error {
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	if len(b) > maxRecord {
		return fault.New(fault.ConfigValue, "the journal's entry has %d bytes, more than the %d that fit", len(b), maxRecord).
			Hint("the hooks that restart the service are too long; put them into a script of the release")
	}
	if info, err := s.FS.Lstat(journalFile); err == nil && info.Kind == filesync.Dir {
		if err := s.FS.RemoveAll(journalFile); err != nil { // nothing of ours; a file cannot take its place
			return err
		}
	}
	return s.replace(journalFile, append(b, '\n'))
}

// moving notes that current is about to move back, and moved that it has moved on: an entry that is open
// then says enough for whoever finds it. What cannot be written, on a full disk, does not keep a host
// from being undone.
func (s *Site) moving(to string) error {
	j, err := s.told()
	if err != nil || j == nil || !j.Open() || to == j.To || j.Step == wire.StepUndoing {
		return err
	}
	return s.noteStep(j, wire.StepUndoing)
}

func (s *Site) moved(to string) error {
	j, err := s.told()
	if err != nil || j == nil || j.Step != wire.StepSwitching || to != j.To {
		return err
	}
	return s.noteStep(j, wire.StepSwitched)
}

// hands is what recovery does besides moving files.
type hands interface {
	// serve makes the release that current points to serve and proves it, within the time of the
	// aftermath; left is the release that must serve no more.
	serve(a *wire.Aftermath, id, left string) error
	// stop ends the service.
	stop(a *wire.Aftermath) error
}

// Recover finishes or undoes what the journal says of a run that has died. It may be asked any number of
// times: a run that died while it recovered is taken up where it was.
func (s *Site) Recover(do hands) (wire.Recovered, error) {
	j, err := s.Journal()
	if errors.Is(err, errRecord) {
		return s.nothing(nil, explain(s.FS.RemoveAll(journalFile), "remove the journal"))
	}
	if err != nil || j == nil || !j.Open() {
		return s.nothing(j, explain(err, "read the journal"))
	}
	current, refusal, err := s.current()
	switch {
	case err != nil:
		return wire.Recovered{}, explain(err, "read current")
	case refusal != "":
		return s.kept(j, errors.New(refusal))
	case j.Step == wire.StepSwitching && current == j.From && current != j.To:
		return s.nothing(j, s.closed(*j, ""))
	case j.Step == wire.StepProven && current == j.To:
		return s.finished(j)
	case j.Step == wire.StepProven: // somebody has moved it since, knowingly
		return s.nothing(j, s.closed(*j, ""))
	}
	if err := s.undo(j, current, do); err != nil {
		return s.kept(j, err)
	}
	return s.recovered("undone", j, s.closed(*j, "undone"))
}

// recovered says what was done.
func (s *Site) recovered(did string, found *wire.Journal, err error) (wire.Recovered, error) {
	current, _, cerr := s.current()
	return wire.Recovered{Did: did, Current: current, Journal: found}, errors.Join(err, explain(cerr, "read current"))
}

func (s *Site) nothing(found *wire.Journal, err error) (wire.Recovered, error) {
	return s.recovered("nothing", found, err)
}

// kept leaves the entry open, with the reason, for the next one who asks.
func (s *Site) kept(found *wire.Journal, why error) (wire.Recovered, error) {
	j := *found
	j.Why = cut(why.Error(), 500)
	_ = s.note(j) // the entry stays open either way, and the reason is told
	r, err := s.recovered("kept", &j, nil)
	r.Why = j.Why
	return r, err
}

// cut gives the first n bytes of a text, whole characters only.
func cut(text string, n int) string {
	return strings.ToValidUTF8(text[:min(len(text), n)], "")
}

// closed ends the entry. One that cannot be written anew, on a full disk, goes altogether: it must not be
// acted on again.
func (s *Site) closed(j wire.Journal, did string) error {
	j.Step, j.Did, j.Why = wire.StepDone, did, ""
	err := s.note(j)
	if err == nil {
		return nil
	}
	if s.FS.RemoveAll(journalFile) == nil && s.FS.SyncDir(stateDir) == nil {
		return nil
	}
	return explain(err, "write the journal")
}

// finished keeps a release whose health was seen: only the word for it may be missing.
func (s *Site) finished(j *wire.Journal) (wire.Recovered, error) {
	r, err := s.record(j.To)
	if err == nil && r.Mark == wire.MarkLive {
		r.Mark = wire.MarkHealthy
		err = s.write(r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errRecord) {
		return wire.Recovered{}, explain(err, "write the record of %s", j.To)
	}
	return s.recovered("finished", j, s.closed(*j, "finished"))
}

// undo takes the host back to the release its entry names and makes that serve.
func (s *Site) undo(j *wire.Journal, current string, do hands) error {
	if j.Aftermath == nil && j.Step != wire.StepSwitching {
		return errors.New("the host was not told how its service is restarted")
	}
	// The step says that a restart is due even when current is back. An entry that cannot be written
	// anew, on a full disk, is still open, and the host must not wait for room.
	_ = s.noteStep(j, wire.StepUndoing)
	back := cmp.Or(j.Back, j.From)
	err := s.goBack(j, back, do)
	if err == nil {
		s.unmark(j, back)
	}
	return err
}

func (s *Site) goBack(j *wire.Journal, back string, do hands) error {
	a := j.Aftermath
	if back == "" && a != nil && len(a.Stop) > 0 {
		if err := do.stop(a); err != nil {
			return err
		}
	}
	if _, err := s.swap(back, ""); err != nil {
		return err
	}
	if a == nil || back == "" && len(a.Stop) > 0 {
		return nil
	}
	return do.serve(a, back, j.To)
}

// unmark gives the release that was undone the mark it had: nothing was found against it.
func (s *Site) unmark(j *wire.Journal, back string) {
	r, err := s.record(j.To)
	if err == nil && j.To != back && j.Mark != "" && r.Mark == wire.MarkLive {
		r.Mark = j.Mark
		_ = s.write(r) // "live" of what is not current is not believed by anybody
	}
}
