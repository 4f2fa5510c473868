// The baseline for downloads: what a plain dump server does.
//
// It tars and gzips a directory of uncompressed cores (archive/tar and compress/gzip at its default level) into a
// temporary file and then sends that file. The seed this project replaces does just that.
//
//	server ADDRESS DIRECTORY
//
//	GET /dump         everything below DIRECTORY
//	GET /dump/NAME    everything below DIRECTORY/NAME
//	GET /healthz
package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: server ADDRESS DIRECTORY")
	}
	root := os.Args[2]
	dump := func(w http.ResponseWriter, r *http.Request) {
		if err := send(w, r, filepath.Join(root, path.Clean("/"+strings.TrimPrefix(r.URL.Path, "/dump")))); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	http.HandleFunc("/dump", dump)
	http.HandleFunc("/dump/", dump)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

func send(w http.ResponseWriter, r *http.Request, directory string) error {
	file, err := os.CreateTemp("", "dump-*.tar.gz")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := archive(file, directory); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/gzip")
	http.ServeContent(w, r, "", info.ModTime(), file)
	return nil
}

func archive(to io.Writer, directory string) error {
	compressed := gzip.NewWriter(to)
	archived := tar.NewWriter(compressed)
	err := filepath.WalkDir(directory, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return add(archived, directory, name)
	})
	if err != nil {
		return err
	}
	if err := archived.Close(); err != nil {
		return err
	}
	return compressed.Close()
}

func add(to *tar.Writer, directory, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	if header.Name, err = filepath.Rel(directory, name); err != nil {
		return err
	}
	if err := to.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(to, file)
	return err
}
