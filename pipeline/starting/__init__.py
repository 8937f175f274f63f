"""What `memsync init` knows: from an address to a configuration that is worth keeping.

addresses, websites, databases, apis    what the source is, told from its address and from what answers there
look                                    what is in it: documents that were listed, and some that were read
proposals, memories                     what follows from that, each setting with its reason
draft, yaml_text                        the settings so far, and the file that they make
"""
