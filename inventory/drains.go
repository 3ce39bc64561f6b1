package inventory

// Drains says which balancer a release takes hosts out of: nginx, haproxy, or "" for none. "auto" is nginx
// where the file has [nginx] and hosts for it.
func (e *Env) Drains() string {
	switch d := e.Release.Drain; {
	case d == "nginx" || d == "haproxy":
		return d
	case d == "auto" && e.Nginx != nil && e.Balancer.Kind == "nginx" && len(e.NginxHosts()) > 0:
		return "nginx"
	}
	return ""
}
