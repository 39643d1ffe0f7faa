package delayplot

import (
	"bytes"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/lab/delay"
)

// run makes up a run of 10 s with delays around a median, and a stall now and then.
func run(name string, median time.Duration, seed uint64) Run {
	rng := rand.New(rand.NewPCG(seed, 0))
	var r delay.Result
	for range 3 {
		var s delay.Subscriber
		for i := range 4000 {
			d := float64(median) * math.Exp(rng.NormFloat64()*0.3)
			if rng.IntN(200) == 0 {
				d *= 20
			}
			s.Points = append(s.Points, delay.Point{At: time.Duration(i) * 2500 * time.Microsecond, Delay: time.Duration(d), Bytes: 1200})
		}
		s.Delay = delay.Distribute(s.Points)
		r.Subscribers = append(r.Subscribers, s)
	}
	r.Total = delay.Distribute(r.Subscribers[0].Points, r.Subscribers[1].Points, r.Subscribers[2].Points)
	return Run{name, &r}
}

func near(a color.Color, b color.NRGBA) bool {
	r, g, bl, _ := a.RGBA()
	d := func(x uint32, y uint8) bool { return math.Abs(float64(x>>8)-float64(y)) < 90 }
	grey := r>>8 == g>>8 && g>>8 == bl>>8
	return !grey && d(r, b.R) && d(g, b.G) && d(bl, b.B)
}

// TestWritePNG looks for the two runs in the picture: the faster one is below the slower one.
func TestWritePNG(t *testing.T) {
	var b bytes.Buffer
	fast, slow := run("fast path", 8*time.Microsecond, 1), run("userspace", 400*time.Microsecond, 2)
	if err := WritePNG(&b, "Delay, 3 subscribers, null", fast, slow); err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("DELAYPLOT_OUT"); path != "" {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	size := img.Bounds().Size()
	if size.X < 1000 || size.Y < 600 {
		t.Fatalf("picture of %v", size)
	}
	var rows [2]struct{ sum, n int }
	for y := size.Y / 4; y < size.Y; y++ { // the legend is above
		for x := range size.X {
			for i := range rows {
				if near(img.At(x, y), colours[i]) {
					rows[i].sum += y
					rows[i].n++
				}
			}
		}
	}
	if rows[0].n < 1000 || rows[1].n < 1000 {
		t.Fatalf("%d and %d pixels of the runs", rows[0].n, rows[1].n)
	}
	if f, s := rows[0].sum/rows[0].n, rows[1].sum/rows[1].n; f < s+size.Y/6 {
		t.Errorf("fast run is at row %d on average, the slow one at %d", f, s)
	}
}

func TestWritePNGEdges(t *testing.T) {
	var b bytes.Buffer
	if err := WritePNG(&b, "nothing", Run{"empty", &delay.Result{}}); err == nil {
		t.Error("draws nothing without an error")
	}
	odd := []delay.Point{{At: 0, Delay: -time.Second, Bytes: 1}, {At: 0, Delay: 0, Bytes: 1}}
	r := &delay.Result{Subscribers: []delay.Subscriber{{Points: odd}}, Total: delay.Distribute(odd)}
	if err := WritePNG(&b, "one moment, no positive delay", Run{"odd", r}, Run{"empty", &delay.Result{}}); err != nil {
		t.Error(err)
	}
}

func TestDuration(t *testing.T) {
	for us, want := range map[float64]string{
		0: "0.00 µs", 1.234: "1.23 µs", 12.34: "12.3 µs", 123.4: "123 µs", 999.6: "1.00 ms", 1234: "1.23 ms",
		45678: "45.7 ms", 456789: "457 ms", 999_600: "1.00 s", 12_345_678: "12.3 s", -3: "-3.00 µs", 9.999: "10.0 µs", 99.96: "100 µs",
	} {
		if got := Duration(us); got != want {
			t.Errorf("duration(%v) = %q, want %q", us, got, want)
		}
	}
}
