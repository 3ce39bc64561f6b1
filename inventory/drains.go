package inventory

// Drains says which balancer a release takes hosts out of: nginx, haproxy, or "" for none. "auto" is the
// one of [balancer] kind where there are hosts for it, and for nginx where the file has [nginx].
func (e *Env) Drains() string {
	switch d := e.Release.Drain; {
	case d == "nginx" || d == "haproxy":
		return d
	case d != "auto" || len(e.FrontHosts()) == 0 || !e.HasBalancer():
		return ""
	}
	return e.Balancer.Kind
}
