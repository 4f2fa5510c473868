// Lists a gzipped tar from stdin as "sha256  name", one line for each regular file.
// It stands for every client written in Go: archive/tar and compress/gzip are what they use.
package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"os"
)

func main() {
	unzipped, err := gzip.NewReader(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, archive); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%x  %s\n", sum.Sum(nil), header.Name)
	}
	// What follows tar's end must still agree with gzip's trailer.
	if _, err := io.Copy(io.Discard, unzipped); err != nil {
		log.Fatal(err)
	}
}
