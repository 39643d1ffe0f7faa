package netlab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Limit makes the relay's end of a link send at most rate bytes per second, Ethernet headers included. What does not fit into the
// queue, of QueueBytes, is lost. It lasts as long as the link.
func (l *Link) Limit(rate uint64) error {
	if err := checkRate(rate); err != nil {
		return err
	}
	return l.Relay.Namespace.withNetlink(func(h *netlink.Handle) error {
		link, err := h.LinkByName(l.Relay.Interface)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", l.Relay.Interface, err)
		}
		const burst = 2 * (DefaultMTU + 14)
		err = h.QdiscReplace(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate, Limit: uint32(QueueBytes(rate)), Buffer: netlink.Xmittime(rate, burst),
		})
		if err != nil {
			return fmt.Errorf("limit %s to %d bytes per second: %w", l.Relay.Interface, rate, privileges(err))
		}
		return nil
	})
}
