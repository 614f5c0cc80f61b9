# SPDX-License-Identifier: BSD-3-Clause
# The Debian packages, by CPack: lethe (programs, units, documentation) and liblethe-dev (the client). The version
# is the project's, here as everywhere. `make package` makes them.

set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON) # what is installed is built by `installed`, tests and benches are not
add_custom_target(installed)
foreach(program lethe-nf lethe-steer lethe-nexthop lethe-store lethe-controller lethe_cli lethe_manual lethe_archive)
  if(TARGET ${program})
    add_dependencies(installed ${program})
  endif()
endforeach()

# Debian wants them compressed, whatever is installed is.
find_program(GZIP gzip REQUIRED)
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/changelog.gz
  COMMAND ${GZIP} -9nc ${CMAKE_SOURCE_DIR}/CHANGELOG.md > ${CMAKE_BINARY_DIR}/changelog.gz
  DEPENDS ${CMAKE_SOURCE_DIR}/CHANGELOG.md VERBATIM)
add_custom_target(lethe_changelog ALL DEPENDS ${CMAKE_BINARY_DIR}/changelog.gz)
add_dependencies(installed lethe_changelog)
file(GLOB docs CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/*.md)
install(FILES README.md SECURITY.md ${docs} ${CMAKE_BINARY_DIR}/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/lethe)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/lethe RENAME copyright)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/liblethe-dev RENAME copyright COMPONENT client)
install(FILES ${CMAKE_BINARY_DIR}/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/liblethe-dev COMPONENT client)
install(FILES site.yaml DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/lethe/examples)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL Unspecified client)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_PACKAGE_VENDOR Lethe)
set(CPACK_PACKAGE_CONTACT "the authors of Lethe <lethe@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "network functions that keep no state")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_NAME lethe)
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_SECTION net)
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_RECOMMENDS "etcd-server | etcd")
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_SUGGESTS "prometheus, bash-completion, ethtool")
set(CPACK_COMPONENT_UNSPECIFIED_DESCRIPTION
  "Workers (a NAT, for example) whose state lives in a replicated store: any of them\nmay be killed, drained or upgraded, and no connection notices. Workers, steering,\nstore, controller and the command line that operates them.")
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_CONTROL_EXTRA
  ${CMAKE_SOURCE_DIR}/cmake/debian/postinst ${CMAKE_SOURCE_DIR}/cmake/debian/prerm ${CMAKE_SOURCE_DIR}/cmake/debian/postrm)

set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME liblethe-dev)
set(CPACK_DEBIAN_CLIENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_CLIENT_PACKAGE_DEPENDS libsodium-dev)
set(CPACK_COMPONENT_CLIENT_DESCRIPTION
  "The asynchronous, batched client of the store that Lethe's workers use: an archive,\nits headers and its pkg-config file.")
include(CPack)
