# cmake -DIN=FILE -DNAME=name -DOUT=FILE.c -P embed.cmake
# Writes a text file as the zero-terminated array `const char name[]`.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
file(WRITE ${OUT} "extern const char ${NAME}[];\nconst char ${NAME}[] = {${bytes}0};\n")
