// Empty: clang includes this header of cuRAND before every CUDA source, and a toolkit without cuRAND
// lacks it. Searched last, see tidy.py.
